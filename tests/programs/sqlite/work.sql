-- A database with journals, temporary files, a vacuum and a backup; prints what it finds.
-- This build of SQLite is without pragmas.
.headers on
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER, body BLOB);
CREATE INDEX by_size ON files (size);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
INSERT INTO files SELECT i, 'file-' || i, (i * 7919) % 100003, zeroblob(i % 300) FROM n;
SELECT count(*), sum(size), sum(length(body)), max(name) FROM files;
BEGIN; UPDATE files SET size = size + 1 WHERE id % 3 = 0; SAVEPOINT s; DELETE FROM files WHERE id > 100;
SELECT count(*) FROM files; ROLLBACK TO s; RELEASE s; COMMIT;
SELECT count(*), sum(size) FROM files;
BEGIN; DELETE FROM files WHERE id % 2 = 0; ROLLBACK;
SELECT count(*) FROM files;
UPDATE files SET body = zeroblob(700) WHERE id < 200;
INSERT INTO files (name, size) VALUES ('wal', 1);
BEGIN; UPDATE files SET body = zeroblob(2000) WHERE id BETWEEN 1000 AND 2500; ROLLBACK;
BEGIN IMMEDIATE; UPDATE files SET body = zeroblob(1500) WHERE id BETWEEN 1000 AND 2500; COMMIT;
SELECT sum(length(body)) FROM files;
DELETE FROM files WHERE id > 1000;
VACUUM;
VACUUM;
DELETE FROM files WHERE id > 500;
SELECT a.name, b.name FROM files a JOIN files b ON a.size = b.size + 1 ORDER BY b.size DESC, a.name LIMIT 5;
ATTACH '/work/other.db' AS other;
CREATE TABLE other.copy AS SELECT * FROM files ORDER BY size DESC;
BEGIN; DELETE FROM other.copy WHERE id % 2; UPDATE files SET size = 0 WHERE id % 2; COMMIT;
SELECT (SELECT count(*) FROM other.copy), (SELECT sum(size) FROM files);
DETACH other;
.backup main /work/backup.db
.output /work/dump.sql
.dump
.output stdout
.mode csv
.once /work/files.csv
SELECT id, name, size FROM files ORDER BY id;
CREATE TABLE imported (id, name, size);
.import /work/files.csv imported
SELECT count(*), sum(id) FROM imported WHERE name LIKE 'file-%';
.open /work/backup.db
SELECT count(*), sum(size) FROM files;
.open /work/restored.db
.read /work/dump.sql
SELECT count(*), sum(size) FROM files;
.open /work/none/at/all.db
SELECT 1;
