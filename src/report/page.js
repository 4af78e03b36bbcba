'use strict';
// Draws the page from the data in it. What comes from origins gets into the document as text alone, never as markup.
const data = JSON.parse(document.getElementById('data').textContent);
const rowHeight = 28;
const printedRows = 3000;

function el(tag, properties, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties || {})) {
    if (value === undefined || value === null) continue;
    if (name === 'class') made.className = value;
    else if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value);
  }
  made.append(...listed(children));
  return made;
}

/// What is there of nested lists of nodes and texts.
const listed = children => children.flat(Infinity).filter(child => child !== null && child !== undefined);

function bytes(count) {
  if (count === null || count === undefined) return '?';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(count < 10 ? 2 : 1)} ${units[unit]}`;
}

const duration = ms => ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
const many = (count, one, more) => `${count.toLocaleString('en')} ${count === 1 ? one : more}`;
const statusClass = status => status === null || status >= 400 ? 'bad' : status >= 300 ? 'warn' : 'good';

/// The scheme and the host of a URL, and the rest.
function parted(url) {
  const end = url.indexOf('/', url.indexOf('://') + 3);
  return end < 0 ? [url, ''] : [url.slice(0, end), url.slice(end)];
}
const hostOf = url => parted(url)[0].replace(/^[a-z]+:\/\//, '');

function kindOf(entry) {
  const type = (entry.type || '').toLowerCase();
  const path = parted(entry.url)[1].split(/[?#]/)[0].toLowerCase();
  if (!entry.body) return 'no body';
  if (/\.(tar(\.\w+)?|tgz|txz|zip|gz|xz|bz2|zst|jar|war|whl|crate|deb|rpm|nar|7z|gem|aar)$/.test(path)
    || /(zip|gzip|x-tar|x-xz|zstd|java-archive|compressed)/.test(type)) return 'archive';
  if (/git-/.test(type)) return 'git';
  if (/json/.test(type)) return 'JSON';
  if (/html/.test(type)) return 'HTML';
  if (/^(text|application)\/.*(text|xml|javascript|toml|yaml|plain|css)/.test(type) || /^text\//.test(type)) return 'text';
  if (/^(image|font|audio|video)\//.test(type)) return type.split('/')[0];
  return 'other';
}

/// Rows of one height, of which only those in sight are in the document; all of them where the page is printed.
class Rows {
  constructor(label, columns, heads, make, open) {
    this.make = make;
    this.open = open;
    this.items = [];
    this.current = -1;
    this.space = el('div', { class: 'space', role: 'rowgroup' });
    this.scroll = el('div', { class: 'scroll', tabindex: '0', role: 'grid', 'aria-label': label,
      onkeydown: event => { if (event.target === this.scroll) this.key(event); } },
    el('div', { class: 'row head', role: 'row' }, heads), this.space);
    this.scroll.style.setProperty('--columns', columns);
    this.scroll.addEventListener('scroll', () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(this.scroll);
    Rows.all.push(this);
  }
  show(items) {
    this.items = items;
    this.current = Math.min(this.current, items.length - 1);
    this.scroll.setAttribute('aria-rowcount', items.length);
    this.scroll.classList.toggle('short', items.length < 20);
    this.space.style.height = `${Math.max(items.length * rowHeight, 1)}px`;
    this.drawn = null;
    this.draw();
  }
  draw() {
    if (this.printing) return;
    const from = Math.max(0, Math.floor(this.scroll.scrollTop / rowHeight) - 8);
    const to = Math.min(this.items.length, from + Math.ceil((this.scroll.clientHeight || 700) / rowHeight) + 16);
    const drawn = `${from} ${to} ${this.current}`;
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.space.replaceChildren(...this.items.slice(from, to).map((item, place) => this.row(item, from + place)));
  }
  row(item, place) {
    const row = this.make(item);
    row.classList.add('row');
    row.classList.toggle('current', place === this.current);
    row.setAttribute('role', 'row');
    row.setAttribute('aria-rowindex', place + 1);
    row.style.top = `${place * rowHeight}px`;
    row.addEventListener('click', () => { this.current = place; this.draw(); this.open(item); });
    return row;
  }
  key(event) {
    const page = Math.max(1, Math.floor(this.scroll.clientHeight / rowHeight) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, j: 1, k: -1,
      Home: -this.items.length, End: this.items.length };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Enter' && this.items[this.current]) this.open(this.items[this.current]);
    else if (steps[event.key] && this.items.length) {
      this.current = Math.min(this.items.length - 1, Math.max(0, this.current + steps[event.key]));
      const top = this.current * rowHeight;
      const { scrollTop, clientHeight } = this.scroll;
      if (top < scrollTop) this.scroll.scrollTop = top;
      // The row of heads covers as much as another row.
      if (top + 2 * rowHeight > scrollTop + clientHeight) this.scroll.scrollTop = top + 2 * rowHeight - clientHeight;
      this.draw();
    } else return;
    event.preventDefault();
  }
  print(printing) {
    this.printing = printing;
    this.drawn = null;
    if (!printing) return this.draw();
    const rows = this.items.slice(0, printedRows).map((item, place) => this.row(item, place));
    const more = this.items.length - rows.length;
    this.space.replaceChildren(...rows, ...(more > 0 ? [el('p', { class: 'dim' }, `… and ${more} more`)] : []));
  }
}
Rows.all = [];

function section(id, title, ...children) {
  document.getElementById('nav').append(el('a', { href: `#${id}` }, title));
  document.getElementById('main').append(
    el('section', { id, 'aria-labelledby': `${id}-title` }, el('h2', { id: `${id}-title` }, title), ...children));
}

const tiles = pairs => el('ul', { class: 'tiles' },
  pairs.filter(Boolean).map(([value, name, mood]) => el('li', {}, el('b', { class: mood }, value), name)));

/// Bars of `amount` by `name`, the longest first; what is beyond the first few is one bar.
function chart(title, items, name, amount, show) {
  const sums = new Map();
  for (const item of items) sums.set(name(item), (sums.get(name(item)) || 0) + amount(item));
  let bars = [...sums].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const rest = bars.slice(10);
  if (rest.length > 1) {
    bars = bars.slice(0, 10);
    bars.push([`${rest.length} others`, rest.reduce((sum, bar) => sum + bar[1], 0)]);
  }
  const most = Math.max(1, ...bars.map(bar => bar[1]));
  const list = el('dl', { class: 'chart' }, bars.map(([label, value]) => {
    const fill = el('span', { class: 'fill' });
    fill.style.width = `${100 * value / most}%`;
    return [el('dt', { title: label }, label), el('dd', {}, fill), el('dd', { class: 'amount' }, show(value))];
  }));
  return el('div', {}, el('h3', {}, title), list);
}

function figures() {
  const { entries, capture, replay } = data;
  const size = entries.reduce((sum, entry) => sum + (entry.size || 0), 0);
  const chains = entries.filter(entry => entry.hops.length).length;
  const hosts = new Set(entries.map(entry => hostOf(entry.url))).size;
  const kept = entries.filter(entry => entry.body && entry.source !== 'fetch');
  const misses = replay && replay['requests-missed'];
  const inReplay = data.live ? 'so far' : 'in the last replay';
  return tiles([
      [entries.length.toLocaleString('en'), entries.length === 1 ? 'entry' : 'entries'],
      [hosts.toLocaleString('en'), hosts === 1 ? 'host' : 'hosts'],
      [bytes(size), 'of bodies'],
      chains > 0 && [chains.toLocaleString('en'), chains === 1 ? 'redirect chain' : 'redirect chains'],
      kept.length > 0 && [kept.length.toLocaleString('en'), `kept, ${bytes(kept.reduce((sum, entry) => sum + (entry.size || 0), 0))}`],
      capture && data.live !== 'replay' && [duration(capture.length), data.live ? 'so far' : 'last capture'],
      data.live === 'capture' && [capture.requests.length.toLocaleString('en'), 'requests'],
      replay && data.live !== 'capture'
        && [misses.toLocaleString('en'), misses === 1 ? `miss ${inReplay}` : `misses ${inReplay}`, misses ? 'bad' : 'good'],
    ]);
}

function overview() {
  const { entries } = data;
  section('overview', 'Overview', figures(),
    el('div', { class: 'charts' },
      chart('Bytes by host', entries, entry => hostOf(entry.url), entry => entry.size || 0, bytes),
      chart('Bytes by kind', entries, kindOf, entry => entry.size || 0, bytes),
      chart('Bytes by source', entries.filter(entry => entry.body), entry => entry.source, entry => entry.size || 0, bytes),
      chart('Entries by status', entries, entry => String(entry.status), () => 1, count => count.toLocaleString('en'))));
}

const fact = (name, value) => value === undefined || value === null || value === '' ? []
  : [el('dt', {}, name), el('dd', {}, value instanceof Node ? value : el('span', { class: 'mono' }, value))];

const headerTable = headers => el('dl', { class: 'facts' },
  Object.entries(headers).map(([name, value]) => [].concat(value).map(one => fact(name, one))));

/// The hops of a chain and its end, from top to bottom.
function chain(entry) {
  const hops = entry.hops.map((hop, place) =>
    el('li', {}, el('span', { class: 'status warn' }, hop.status), el('code', {}, place ? entry.hops[place - 1].location : entry.url)));
  const last = entry.hops.length ? entry.hops[entry.hops.length - 1].location : entry.url;
  return el('ol', { class: 'chain' }, hops,
    el('li', {}, el('span', { class: `status ${statusClass(entry.status)}` }, entry.status), el('code', {}, last)));
}

function details(title, ...children) {
  const dialog = document.getElementById('details');
  const close = el('button', { type: 'button', onclick: () => dialog.close() }, 'close');
  dialog.replaceChildren(
    el('div', { class: 'bar' }, el('h2', { id: 'details-title' }, el('code', {}, title)), close), ...listed(children));
  dialog.showModal();
  dialog.scrollTop = 0;
}

function showEntry(entry) {
  const answered = data.replay && data.replay.answered.find(one => one.method === entry.method && one.url === entry.url);
  details(`${entry.method} ${entry.url}`,
    entry.hops.length ? [el('h3', {}, many(entry.hops.length, 'redirect', 'redirects')), chain(entry)] : null,
    el('h3', {}, 'Answer'),
    el('dl', { class: 'facts' },
      fact('status', el('span', { class: statusClass(entry.status) }, entry.status)),
      entry.body ? [fact('size', entry.size === null ? null : `${bytes(entry.size)} (${entry.size.toLocaleString('en')} bytes)`),
        fact('hash', entry.hash), fact('source', entry.source), fact('place', entry.place),
        fact('store path', entry.path), fact('why', entry.why)] : fact('body', 'none'),
      fact('systems', (entry.systems || []).join(', ')),
      fact('for', entry.prefix ? 'every URL that starts so' : null),
      fact('request body', entry.requestBody),
      answered ? fact('last replay', `answered ${many(answered.count, 'request', 'requests')}`) : null),
    entry.requestHeaders ? [el('h3', {}, 'Where the request has'), headerTable(entry.requestHeaders)] : null,
    Object.keys(entry.headers).length ? [el('h3', {}, 'Headers'), headerTable(entry.headers)] : null,
    entry.text === undefined ? null : [el('h3', {}, 'Body'), el('pre', {}, entry.text)]);
}

function entriesTable() {
  const columns = [
    ['method', '4.5rem', entry => entry.method, ''],
    ['url', 'minmax(16rem, 1fr)', entry => entry.url, ''],
    ['status', '3.5rem', entry => entry.status, 'number'],
    ['kind', '5.5rem', entry => entry.kind, ''],
    ['size', '5.5rem', entry => entry.size || 0, 'number'],
    ['source', '6.5rem', entry => entry.source || '', ''],
  ];
  const template = columns.map(column => column[1]).join(' ');
  for (const entry of data.entries) {
    entry.kind = kindOf(entry);
    entry.words = [entry.method, entry.url, entry.status, entry.kind, entry.source, entry.hash, entry.path, entry.why,
      ...entry.hops.map(hop => hop.location)].join(' ').toLowerCase();
  }
  const heads = columns.map(([name, , , look], place) => el('button', { type: 'button', class: look, role: 'columnheader',
    onclick: () => {
      sorted = { column: place, down: sorted.column === place ? !sorted.down : name === 'size' };
      update();
    } }, name));
  const rows = new Rows('entries', template, heads, entry => {
    const [host, rest] = parted(entry.url);
    return el('div', { title: entry.url },
      el('span', { role: 'gridcell' }, entry.method),
      el('span', { role: 'gridcell' }, entry.hops.length ? el('span', { class: 'warn', title: 'a redirect chain' }, '↪ ') : null,
        el('span', { class: 'dim' }, host), rest),
      el('span', { role: 'gridcell', class: `number ${statusClass(entry.status)}` }, entry.status),
      el('span', { role: 'gridcell' }, entry.kind),
      el('span', { role: 'gridcell', class: 'number' }, entry.body ? bytes(entry.size) : '–'),
      el('span', { role: 'gridcell', class: entry.source === 'fetch' ? '' : 'warn' }, entry.source || '–'));
  }, showEntry);
  let sorted = { column: null, down: false };
  const search = el('input', { type: 'search', id: 'search', placeholder: 'Search: words of URL, status, kind, source, hash … ( / )',
    'aria-label': 'Search the entries', oninput: () => update() });
  const count = el('span', { class: 'dim', id: 'count', role: 'status' });
  function update() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.entries.filter(entry => words.every(word => entry.words.includes(word)));
    if (sorted.column !== null) {
      const value = columns[sorted.column][2];
      const sign = sorted.down ? -1 : 1;
      found.sort((a, b) => { const [x, y] = [value(a), value(b)]; return x < y ? -sign : x > y ? sign : 0; });
    }
    heads.forEach((head, place) => {
      const direction = sorted.down ? 'descending' : 'ascending';
      head.setAttribute('aria-sort', place === sorted.column ? direction : 'none');
      head.textContent = columns[place][0] + (place === sorted.column ? (sorted.down ? ' ↓' : ' ↑') : '');
    });
    const size = found.reduce((sum, entry) => sum + (entry.size || 0), 0);
    count.textContent = `${many(found.length, 'entry', 'entries')}, ${bytes(size)}`;
    rows.scroll.scrollTop = 0;
    rows.show(found);
  }
  section('entries', 'Entries',
    el('div', { class: 'tools' }, search, count,
      el('span', { class: 'dim hint' }, el('kbd', {}, '↑'), ' ', el('kbd', {}, '↓'), ' move, ', el('kbd', {}, 'Enter'), ' opens')),
    el('div', { class: 'grid' }, rows.scroll));
  update();
  return { rows, search };
}

/// The waterfall of the capture, by host; gives what draws it anew.
function timeline() {
  if (!data.capture) return null;
  let length = 1;
  const piece = (look, from, to) => {
    const bar = el('i', { class: look });
    bar.style.left = `${100 * from / length}%`;
    bar.style.width = `${100 * Math.max(0, to - from) / length}%`;
    return bar;
  };
  const hostRow = item => {
    const size = item.requests.reduce((sum, request) => sum + (request.bytes || 0), 0);
    return el('div', { class: 'host' }, el('span', { role: 'gridcell' }, item.host),
      el('span', { role: 'gridcell', class: 'number' }, bytes(size)),
      el('span', { role: 'gridcell', class: 'dim' }, many(item.requests.length, 'request', 'requests')));
  };
  const requestRow = item => {
    const end = item.end === undefined ? length : item.end;
    const head = item.head === undefined ? end : item.head;
    const told = `${item.method} ${item.url}\n${item.status || ''} ${bytes(item.bytes)}, ${duration(head - item.start)} until the answer, `
      + `${duration(end - head)} for its body${item.problem ? `\n${item.problem}` : ''}`;
    return el('div', { title: told },
      el('span', { role: 'gridcell', class: item.problem ? 'bad' : '' }, parted(item.url)[1] || '/'),
      el('span', { role: 'gridcell', class: 'number' }, item.bytes === undefined ? (item.status || '–') : bytes(item.bytes)),
      el('span', { role: 'gridcell', class: 'lane' }, piece('wait', item.start, head),
        piece(item.problem ? 'failed' : 'receive', head, end)));
  };
  const showRequest = item => {
    const entry = data.entries.find(entry => entry.method === item.method
      && (entry.url === item.url || entry.hops.some(hop => hop.location === item.url)));
    if (entry) showEntry(entry);
    else details(`${item.method} ${item.url}`, el('dl', { class: 'facts' },
      fact('status', item.status), fact('not recorded', item.problem)));
  };
  const axis = el('div', { class: 'axis' });
  const rows = new Rows('timeline of the capture', 'minmax(12rem, 26%) 5rem 1fr', [el('span'), el('span'), axis],
    item => item.host === undefined ? requestRow(item) : hostRow(item),
    item => { if (item.host === undefined) showRequest(item); });
  const told = el('span');
  section('timeline', data.live === 'capture' ? 'Timeline' : 'Timeline of the last capture',
    el('p', { class: 'legend dim' }, told,
      el('i', { class: 'wait' }), 'waiting', el('i', { class: 'receive' }), 'receiving', el('i', { class: 'failed' }), 'not recorded'),
    el('div', { class: 'grid' }, rows.scroll));
  const draw = () => {
    const { capture } = data;
    length = Math.max(capture.length, 1);
    const hosts = new Map();
    for (const request of capture.requests) {
      const host = hostOf(request.url);
      if (!hosts.has(host)) hosts.set(host, []);
      hosts.get(host).push(request);
    }
    const more = capture.unlisted ? `, and ${capture.unlisted.toLocaleString('en')} that are not listed` : '';
    told.textContent = `${capture.started}, ${many(capture.requests.length, 'request', 'requests')}${more} in ${duration(capture.length)}`;
    axis.replaceChildren(...[0, .25, .5, .75, 1].map(part => {
      const tick = el('span', {}, duration(length * part));
      tick.style.left = `${100 * part}%`;
      return tick;
    }));
    rows.show([...hosts].flatMap(([host, requests]) => [{ host, requests }, ...requests]));
  };
  draw();
  return draw;
}

function table(heads, lines) {
  return el('table', {}, el('thead', {}, el('tr', {}, heads.map(head => el('th', { scope: 'col' }, head)))),
    el('tbody', {}, lines.slice(0, printedRows).map(line => el('tr', {}, line.map(cell => el('td', {}, cell))))));
}

/// What the replay said; gives what draws it anew.
function lastReplay() {
  if (!data.replay || data.live === 'capture') return null;
  const place = el('div');
  section('replay', data.live ? 'Replay' : 'Last replay', place);
  const draw = () => place.replaceChildren(...listed(replayParts(data.replay)));
  draw();
  return draw;
}

function replayParts(replay) {
  const miss = one => el('div', { class: 'step' },
    el('div', {}, el('code', {}, `${one.method} ${one.url}`), one.count > 1 ? ` (${one.count} times)` : null),
    el('div', { class: 'dim' }, one.reason),
    one.details.map(detail => el('div', { class: 'dim' }, detail)),
    el('div', {}, one.hint),
    one.suggestion ? el('pre', {}, one.suggestion) : null);
  const missed = replay['requests-missed'];
  const list = (title, items, heads, line) =>
    items.length ? [el('h3', {}, `${title} (${items.length})`), table(heads, items.map(line))] : [];
  const unused = replay.unusedEntries === undefined ? replay.unused.length : replay.unusedEntries;
  return [
    tiles([[replay['requests-answered'].toLocaleString('en'), 'requests answered'],
      [missed.toLocaleString('en'), 'missed', missed ? 'bad' : 'good'],
      [unused.toLocaleString('en'), data.live ? 'entries not asked for yet' : 'entries unused']]),
    missed ? el('h3', { class: 'bad' }, many(missed, 'request that nothing answered', 'requests that nothing answered')) : null,
    replay.misses.map(miss),
    list('Bodies that could not be sent', replay['broken-bodies'], ['request', 'problem'],
      one => [el('code', {}, `${one.method} ${one.url}`), one.problem]),
    list('Clients that did not come to TLS', replay['failed-handshakes'], ['host', 'process', 'problem'],
      one => [one.host, one.process || '', one.problem]),
    data.live ? null : list('Entries that nothing asked for', replay.unused, ['method', 'URL'],
      one => [one.method, el('code', {}, one.url)]),
    !missed && !unused && !replay['broken-bodies'].length
      ? el('p', { class: 'good' }, 'Every request was answered, and every entry was asked for.') : null,
  ];
}

function differences() {
  const { diff } = data;
  if (!diff) return;
  const signs = { added: ['+', 'plus'], removed: ['-', 'minus'], changed: ['~', 'tilde'] };
  const change = field => el('tr', {}, el('th', { scope: 'row' }, field.field),
    el('td', {}, field.before === null ? null : el('del', { class: 'mono' }, field.before),
      field.before !== null && field.after !== null ? ' → ' : null,
      field.after === null ? null : el('ins', { class: 'mono' }, field.after)));
  const hosts = new Map();
  const shown = diff.entries.slice(0, printedRows);
  for (const step of shown) {
    const host = hostOf(step.url);
    if (!hosts.has(host)) hosts.set(host, []);
    hosts.get(host).push(step);
  }
  const { totals } = diff;
  section('differences', `What is different from ${diff.before}`,
    tiles([[`+${totals.added.entries}`, `added, ${bytes(totals.added.bytes)}`, 'plus'],
      [`-${totals.removed.entries}`, `removed, ${bytes(totals.removed.bytes)}`, 'minus'],
      [`~${totals['changed-after'].entries}`, `changed, ${bytes(totals['changed-before'].bytes)} → ${bytes(totals['changed-after'].bytes)}`, 'tilde']]),
    diff.match.length ? [el('h3', {}, '[match]'), el('div', { class: 'step' }, el('table', {}, el('tbody', {}, diff.match.map(change))))] : null,
    !diff.entries.length && !diff.match.length ? el('p', { class: 'good' }, 'Both mean the same.') : null,
    [...hosts].map(([host, steps]) => [el('h3', {}, host), steps.map(step => {
      const [sign, look] = signs[step.change];
      const head = [el('b', { class: look }, `${sign} `), el('code', {}, `${step.method} ${step.url}`)];
      const fields = () => el('table', {}, el('tbody', {}, step.fields.map(change)));
      if (step.change === 'changed') return el('div', { class: 'step' }, head, fields());
      const made = el('details', { class: 'step' }, el('summary', {}, head));
      made.addEventListener('toggle', () => made.append(fields()), { once: true });
      return made;
    })]),
    shown.length < diff.entries.length ? el('p', { class: 'dim' }, `… and ${many(diff.entries.length - shown.length, 'entry', 'entries')} more`) : null);
}

/// Keeps up with a run that goes on.
function follow(draws) {
  const state = el('span', { class: 'dim', id: 'state', role: 'status' }, 'live');
  document.getElementById('theme').before(state);
  const events = new EventSource('events');
  const take = news => {
    if (data.live === 'capture') {
      data.capture.length = news.length;
      for (const [place, request] of news.requests) data.capture.requests[place] = request;
    } else data.replay = Object.assign(news.report, { unusedEntries: news.unused });
    draws.forEach(draw => draw());
    document.querySelector('#overview .tiles').replaceWith(figures());
  };
  const end = () => {
    events.close();
    state.textContent = `the ${data.live} has ended`;
  };
  events.onmessage = event => take(JSON.parse(event.data));
  events.addEventListener('end', event => {
    if (event.data) take(JSON.parse(event.data));
    end();
  });
  events.onerror = end;
}

function theme() {
  const root = document.documentElement;
  const isDark = () => root.dataset.theme ? root.dataset.theme === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  root.dataset.theme = isDark() ? 'light' : 'dark';
  document.getElementById('theme').setAttribute('aria-pressed', isDark());
}

overview();
differences();
const { rows, search } = entriesTable();
const draws = [timeline(), lastReplay()].filter(Boolean);
if (data.live) follow(draws);
document.getElementById('theme').addEventListener('click', theme);
addEventListener('keydown', event => {
  const typing = event.target instanceof HTMLInputElement || document.getElementById('details').open;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape' && event.target === search) { search.value = ''; search.dispatchEvent(new Event('input')); rows.scroll.focus(); }
  if (event.key === 'ArrowDown' && event.target === search) { rows.scroll.focus(); event.preventDefault(); }
  if (typing) return;
  if (event.key === '/') { search.focus(); search.select(); event.preventDefault(); }
  if (event.key === 't') theme();
});
document.getElementById('details').addEventListener('click', event => {
  if (event.target === event.currentTarget) event.currentTarget.close();
});
addEventListener('beforeprint', () => Rows.all.forEach(rows => rows.print(true)));
addEventListener('afterprint', () => Rows.all.forEach(rows => rows.print(false)));
