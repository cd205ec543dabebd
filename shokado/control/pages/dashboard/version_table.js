// The versions: how each is, what it does, and what can be done with it.

import { swatch } from './colours.js';
import { confirmed } from './confirmation.js';
import { arrange, byId, element, say } from './elements.js';
import { bytes, milliseconds, percent, short } from './numbers.js';
import { ask } from './server.js';

const COLUMNS = ['Requests/s', 'p50', 'p95', 'p99', 'Errors', 'Rows a batch', 'Queue wait p95', 'Score'];
const LOAD_MS = 600_000;

const rows = new Map();
const hidden = new Set();

/** The versions of a list that the charts are to show. */
export const shown = (versions) => versions.filter((version) => !hidden.has(version));

/**
 * Show the versions. `models` is what `/v1/models` says, `now` the latest figures; `page` has the environment, and
 * `changed` and `redraw` to be called.
 */
export function showVersions(models, now, page) {
  const table = byId('version-table');
  if (!table.tHead) {
    const heads = ['Version', 'State', 'Share', ...COLUMNS, ''].map((name, index) =>
      name ? element('th', { scope: 'col', class: index > 1 ? 'number' : null }, name) : element('td'),
    );
    table.append(
      element('caption', {}, 'Figures are of the last minute, of all workers of this server.'),
      element('thead', {}, element('tr', {}, heads)),
      element('tbody'),
    );
  }
  const figures = new Map(now.versions.map((one) => [one.version, one.figures]));
  arrange(
    table.tBodies[0],
    models.versions.map((version) => {
      if (!rows.has(version.version)) rows.set(version.version, rowOf(version.version, page));
      const row = rows.get(version.version);
      describe(row, version, page.environment);
      count(row, figures.get(version.version));
      return row.line;
    }),
  );
}

function rowOf(version, page) {
  const box = element('input', {
    type: 'checkbox',
    checked: true,
    'aria-label': `Show ${version} in charts`,
    on: { change: () => (box.checked ? hidden.delete(version) : hidden.add(version), page.redraw()) },
  });
  const about = element('small');
  const state = element('span', { class: 'pill' });
  const failure = element('small');
  const share = element('td', { class: 'number' });
  const cells = COLUMNS.map(() => element('td', { class: 'number' }, '–'));
  const activate = element(
    'button',
    { class: 'small', type: 'button', 'aria-label': `Activate ${version}` },
    'Activate…',
  );
  const unload = element('button', { class: 'small', type: 'button' });
  const line = element(
    'tr',
    {},
    element('th', { scope: 'row' }, element('label', { class: 'shown' }, box, swatch(version), version), about),
    element('td', {}, state, failure),
    share,
    cells,
    element('td', {}, element('div', { class: 'actions' }, activate, unload)),
  );
  const row = { version, line, about, state, failure, share, cells, activate, unload, known: null };
  activate.addEventListener('click', () => activateVersion(row.known, page));
  unload.addEventListener('click', () => (row.known.state === 'unloaded' ? loadAgain : unloadVersion)(row.known, page));
  return row;
}

function describe(row, version, environment) {
  row.known = version;
  const facts = [
    version.aliases.length && `also ${version.aliases.join(', ')}`,
    version.source?.uri,
    version.engine,
    version.placement !== 'embedded' && version.placement,
    version.size_bytes && bytes(version.size_bytes).replace('0 MiB', `${short(version.size_bytes / 1024)} KiB`),
  ].filter(Boolean);
  say(row.about, facts.join(' · '));
  say(row.state, version.loading ? 'loading' : version.state);
  row.state.className = `pill ${version.state === 'ready' ? 'good' : ['failed', 'away'].includes(version.state) ? 'bad' : 'warn'}`;
  const loading = version.loading && `${version.loading.source}: ${version.loading.failure ?? version.loading.state}`;
  say(row.failure, version.failure ?? loading ?? '');
  const roles = [
    version.active_in.includes(environment) && 'active',
    version.shadow_in.includes(environment) && 'shadow',
  ].filter(Boolean);
  const share = `${percent(version.weights[environment] ?? 0)}${roles.length ? ` ${roles.join(', ')}` : ''}`;
  say(row.share, share);
  row.activate.disabled = version.state !== 'ready' || roles.includes('active');
  const again = version.state === 'unloaded';
  say(row.unload, again ? 'Load…' : 'Unload…');
  row.unload.setAttribute('aria-label', `${again ? 'Load' : 'Unload'} ${version.version}`);
}

function count(row, figures) {
  const kinds = Object.entries(figures?.errors_by_kind ?? {});
  const told = figures
    ? [
        short(figures.request_rate_per_s),
        milliseconds(figures.latency_ms.p50),
        milliseconds(figures.latency_ms.p95),
        milliseconds(figures.latency_ms.p99),
        kinds.length ? kinds.map(([kind, number]) => `${number} ${kind}`).join(', ') : '0',
        short(figures.batch_rows.mean),
        milliseconds(figures.queue_wait_ms.p95),
        short(figures.predictions.mean),
      ]
    : COLUMNS.map(() => '–');
  told.forEach((text, index) => say(row.cells[index], text));
}

async function activateVersion({ version }, page) {
  const facts = [
    `It then answers in ${page.environment} when the split is off, on routes that do not split, and where another version is not ready.`,
  ];
  const body = { environment: page.environment };
  const act = (why) => page.change(`models/${encodeURIComponent(version)}/activate`, { ...body, why });
  if (await confirmed(`Activate ${version}`, facts, act))
    page.changed(`${version} is the active version of ${page.environment}.`);
}

async function unloadVersion({ version }, page) {
  const facts = [
    'It leaves the memory of every worker when what it has under way is answered. It stays known, and can be loaded again.',
  ];
  const act = (why) =>
    ask(`v1/models/${encodeURIComponent(version)}/unload`, { method: 'POST', body: { why }, timeout: LOAD_MS });
  if (await confirmed(`Unload ${version}`, facts, act)) page.changed(`${version} is unloaded.`);
}

async function loadAgain({ version }, page) {
  const act = (why) =>
    ask(`v1/models/${encodeURIComponent(version)}/load`, { method: 'POST', body: { why }, timeout: LOAD_MS });
  if (await confirmed(`Load ${version}`, ['It is loaded into every worker, and gets no traffic by that.'], act))
    page.changed(`${version} is loaded.`);
}

/** The form that loads a version by its address. */
export function offerLoading(page) {
  const form = byId('load');
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const uri = form.elements.uri.value.trim();
    const version = form.elements.version.value.trim();
    const facts = [
      'It is imported and checked, loaded into every worker, and gets no traffic by that. This may take minutes.',
    ];
    const act = (why) =>
      ask('model/load', { method: 'POST', body: { uri, why, ...(version && { version }) }, timeout: LOAD_MS });
    if (await confirmed(`Load ${uri}`, facts, act)) {
      form.reset();
      page.changed(`${uri} is loaded.`);
    }
  });
}
