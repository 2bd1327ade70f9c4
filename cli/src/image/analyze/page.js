"use strict";
(() => {
  const FILE = -1, SYMLINK = -2, FURTHER = -3, REST = -4;
  const MAX_TILES = 400, MAX_INNER = 900, MAX_LIST = 200, MAX_RESULTS = 200;
  const raw = JSON.parse(document.getElementById("data").textContent);
  const names = raw.names.split("/");
  const kinds = Int32Array.from(raw.kinds);
  const layers = raw.layers;
  const count = kinds.length;
  const sizes = Float64Array.from(raw.sizes);
  const unopened = raw.unopened ? Float64Array.from(raw.unopened) : null;
  const parents = new Int32Array(count).fill(-1);
  const ends = new Int32Array(count);
  raw.names = raw.sizes = raw.kinds = raw.unopened = null;

  // Parents come first, with all that is below them: who is whose follows from the counts.
  const open = [], left = [];
  for (let at = 0; at < count; at++) {
    while (open.length && left[left.length - 1] === 0) { ends[open.pop()] = at; left.pop(); }
    if (open.length) { parents[at] = open[open.length - 1]; left[left.length - 1]--; }
    ends[at] = at + 1;
    if (kinds[at] > 0) { open.push(at); left.push(kinds[at]); }
  }
  while (open.length) ends[open.pop()] = count;
  for (let at = count - 1; at > 0; at--) {
    sizes[parents[at]] += sizes[at];
    if (unopened) unopened[parents[at]] += unopened[at];
  }

  // A directory is shown in the colour of what is largest in it; children come by size.
  const hues = Int32Array.from(layers);
  for (let at = count - 1; at >= 0; at--) {
    if (kinds[at] <= 0) continue;
    const first = at + 1, second = ends[first];
    hues[at] = hues[kinds[first] === REST && second < ends[at] ? second : first];
  }

  const $ = (id) => document.getElementById(id);
  const isDir = (at) => kinds[at] >= 0;
  const childrenOf = (at) => {
    const all = [];
    if (isDir(at)) for (let child = at + 1; child < ends[at]; child = ends[child]) all.push(child);
    return all.sort((a, b) => sizes[b] - sizes[a]);
  };
  const label = (at) => kinds[at] === REST ? `${names[at]} more entries` : at === 0 ? "/" : names[at];
  const pathOf = (at) => {
    const parts = [];
    for (; at > 0; at = parents[at]) parts.unshift(label(at));
    return "/" + parts.join("/");
  };
  const human = (size) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (size >= 1023.5 && unit < 4) { size /= 1024; unit++; }
    return unit === 0 ? `${size} B` : `${size.toPrecision(3)} ${units[unit]}`;
  };
  const make = (tag, text, parent) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };

  const hue = (layer) => (layer * 137.5 + 150) % 360;
  let byOpened = false;
  const paint = (element, at) => {
    element.classList.remove("plain");
    if (kinds[at] === REST) element.classList.add("plain");
    else if (!byOpened) element.style.setProperty("--hue", hue(hues[at]));
    else if (unopened[at] * 2 > sizes[at]) element.classList.add("plain");
    else element.style.setProperty("--hue", 150);
  };

  // Squarified: rows along the shorter side for as long as that makes them less oblong.
  const squarify = (items, total, x, y, width, height, put) => {
    if (total <= 0 || width <= 0 || height <= 0) return;
    const scale = (width * height) / total;
    let at = 0;
    while (at < items.length && width > 0.5 && height > 0.5) {
      const side = Math.min(width, height);
      let sum = 0, worst = Infinity, end = at;
      while (end < items.length) {
        const next = sum + sizes[items[end]] * scale;
        const most = sizes[items[at]] * scale, least = sizes[items[end]] * scale;
        const ratio = Math.max((side * side * most) / (next * next), (next * next) / (side * side * least));
        if (ratio > worst) break;
        worst = ratio; sum = next; end++;
      }
      const depth = sum / side;
      let offset = 0;
      for (; at < end; at++) {
        const length = (sizes[items[at]] * scale) / depth;
        if (width >= height) put(items[at], x, y + offset, depth, length);
        else put(items[at], x + offset, y, length, depth);
        offset += length;
      }
      if (width >= height) { x += depth; width -= depth; } else { y += depth; height -= depth; }
    }
  };

  const map = $("map");
  let current = 0, tiles = [];
  const place = (element, x, y, width, height) => {
    const style = element.style;
    style.left = `${x}px`; style.top = `${y}px`;
    style.width = `${width}px`; style.height = `${height}px`;
  };

  const draw = () => {
    map.replaceChildren();
    tiles = [];
    const children = childrenOf(current).filter((child) => sizes[child] > 0).slice(0, MAX_TILES);
    const inner = Math.max(6, Math.floor(MAX_INNER / Math.max(1, children.length)));
    if (children.length === 0) make("p", "No bytes below this directory.", map).className = "note";
    squarify(children, sizes[current], 0, 0, map.clientWidth, map.clientHeight, (at, x, y, width, height) => {
      if (width < 3 || height < 3) return;
      const tile = make("button", width > 24 && height > 14 ? label(at) : "", map);
      tile.className = isDir(at) ? "tile dir" : "tile";
      place(tile, x, y, width, height);
      if (!isDir(at)) paint(tile, at);
      const words = `${pathOf(at)}, ${human(sizes[at])}${isDir(at) ? ", directory" : `, layer ${layers[at]}`}`;
      tile.title = words;
      tile.setAttribute("aria-label", words);
      tile.tabIndex = tiles.length === 0 ? 0 : -1;
      tile.addEventListener("click", () => isDir(at) ? go(at) : undefined);
      tiles.push({ tile, at, x: x + width / 2, y: y + height / 2 });
      if (!isDir(at) || width < 30 || height < 40) return;
      const below = childrenOf(at).filter((child) => sizes[child] > 0).slice(0, inner);
      squarify(below, sizes[at], 2, 17, width - 6, height - 21, (within, x, y, width, height) => {
        if (width < 3 || height < 3) return;
        const part = make("span", undefined, tile);
        part.className = "inner";
        place(part, x, y, width, height);
        paint(part, within);
      });
    });
  };

  const fillRow = (row, at, cells) => {
    const first = make("td", undefined, row);
    const key = make("i", undefined, first);
    key.className = "key";
    paint(key, at);
    const name = cells.shift();
    if (isDir(at)) {
      const button = make("button", name, first);
      button.addEventListener("click", () => { go(at); map.scrollIntoView({ block: "nearest" }); });
    } else make("span", name, first);
    for (const cell of cells) make("td", cell, row);
  };
  const kindWord = (at) => kinds[at] === SYMLINK ? " (link)" : kinds[at] === FURTHER ? " (further name)" : "";

  const list = () => {
    const body = $("list");
    body.replaceChildren();
    const children = childrenOf(current);
    for (const at of children.slice(0, MAX_LIST)) {
      const share = sizes[current] > 0 ? `${((sizes[at] / sizes[current]) * 100).toFixed(1)} %` : "";
      const name = isDir(at) ? `${label(at)}/` : label(at) + kindWord(at);
      fillRow(make("tr", undefined, body), at, [name, human(sizes[at]), share, isDir(at) || kinds[at] === REST ? "" : String(layers[at])]);
    }
    if (children.length > MAX_LIST) make("td", `and ${children.length - MAX_LIST} more`, make("tr", undefined, body)).colSpan = 4;
  };

  const crumbs = () => {
    const bar = $("crumbs");
    bar.replaceChildren();
    const chain = [];
    for (let at = current; at >= 0; at = parents[at]) chain.unshift(at);
    for (const at of chain) {
      if (at === current) { make("span", `${label(at)}  ${human(sizes[at])}`, bar).setAttribute("aria-current", "location"); }
      else make("button", label(at), bar).addEventListener("click", () => go(at));
    }
  };

  const go = (at, focus) => {
    const from = current;
    current = at;
    crumbs(); draw(); list();
    const back = tiles.findIndex((one) => one.at === from);
    const hadFocus = focus || document.activeElement === document.body;
    if (tiles.length && hadFocus) select(Math.max(back, 0));
  };
  const select = (number) => {
    for (const { tile } of tiles) tile.tabIndex = -1;
    const one = tiles[number];
    if (one) { one.tile.tabIndex = 0; one.tile.focus(); }
  };

  map.addEventListener("keydown", (event) => {
    const here = tiles.findIndex((one) => one.tile === document.activeElement);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    if (event.key === "Backspace" || event.key === "Escape") {
      if (current > 0) go(parents[current], true);
    } else if (event.key === "Home") select(0);
    else if (event.key === "End") select(tiles.length - 1);
    else if (event.key === "Enter" && here >= 0 && isDir(tiles[here].at)) go(tiles[here].at, true);
    else if (move && here >= 0) {
      let best = -1, least = Infinity;
      tiles.forEach((one, number) => {
        const along = (one.x - tiles[here].x) * move[0] + (one.y - tiles[here].y) * move[1];
        const across = Math.abs((one.x - tiles[here].x) * move[1]) + Math.abs((one.y - tiles[here].y) * move[0]);
        const far = along + 2 * across;
        if (along > 1 && far < least) { least = far; best = number; }
      });
      if (best >= 0) select(best);
    } else return;
    event.preventDefault();
  });

  let lower = null, paths = null;
  const search = () => {
    const query = $("query").value.toLowerCase();
    const body = $("results");
    body.replaceChildren();
    $("results-sheet").hidden = query === "";
    $("found").textContent = "";
    if (query === "") return;
    let words;
    if (query.includes("/")) words = paths ||= Array.from(names, (_, at) => pathOf(at).toLowerCase());
    else words = lower ||= names.map((name) => name.toLowerCase());
    const hits = [];
    for (let at = 1; at < count; at++) if (kinds[at] !== REST && words[at].includes(query)) hits.push(at);
    hits.sort((a, b) => sizes[b] - sizes[a]);
    $("found").textContent = `${hits.length.toLocaleString("en")} found${hits.length > MAX_RESULTS ? `, the largest ${MAX_RESULTS} shown` : ""}`;
    for (const at of hits.slice(0, MAX_RESULTS)) {
      fillRow(make("tr", undefined, body), at, [pathOf(at) + (isDir(at) ? "/" : kindWord(at)), human(sizes[at]), isDir(at) ? "" : String(layers[at])]);
    }
  };
  let waiting = 0;
  $("query").addEventListener("input", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(search); });

  const legend = () => { $("legend").textContent = byOpened ? "Green was opened by a traced run; grey never was. A directory has the colour of most of its bytes." : "A colour stands for a layer, as in the table of layers; a directory has that of the largest in it."; };
  if (unopened) {
    $("colour-label").hidden = false;
    $("colour").addEventListener("change", () => { byOpened = $("colour").value === "opened"; legend(); draw(); list(); search(); });
  }
  for (const key of document.querySelectorAll("i.key[data-layer]")) key.style.setProperty("--hue", hue(Number(key.dataset.layer)));
  let width = 0;
  new ResizeObserver(() => { if (map.clientWidth !== width) { width = map.clientWidth; draw(); } }).observe(map);
  legend();
  go(0);
})();
