# CPython with its library as files, for the others to build on. The program carries a /usr of its own, so the library lies elsewhere.
FROM scratch AS unpacked
COPY python-3.11.3.wasm /bin/python.wasm
ADD python-3.11.3.tar.gz /packed/
COPY install.py /
RUN ["/bin/python.wasm", "/install.py", "/packed/usr/local/lib", "/opt/python/lib/python3.11"]

FROM scratch
COPY python-3.11.3.wasm /bin/python.wasm
COPY --from=unpacked /opt/python /opt/python
ENV PYTHONHOME=/opt/python PYTHONPATH=/opt/python/lib/python3.11 PYTHONDONTWRITEBYTECODE=1
