// Puts the page together: what is heard once a second goes to the panels, and what changes seldom is asked for when it
// has changed.

import { colour } from './colours.js';
import { byId, element, offer, say } from './elements.js';
import { showDrift } from './drift_panel.js';
import { readEffects } from './experiment_effects.js';
import { offerExperiment } from './experiment_form.js';
import { loseExperiment, offerStop, showExperiment } from './experiment_panel.js';
import { offerOlder, showHistory } from './history_panel.js';
import { drawCharts } from './line_charts.js';
import { Live } from './live.js';
import { showLog } from './log_panel.js';
import { naturally } from './numbers.js';
import { showPast } from './past_experiments.js';
import { drawQualityOverTime, readQualityOverTime } from './quality_charts.js';
import { showQuality } from './quality_panel.js';
import { offerQuestion } from './question_form.js';
import { Series } from './series.js';
import { ask, askForKey, Refusal } from './server.js';
import { offerSplit, showSplit } from './split_panel.js';
import { showTiles } from './tiles.js';
import { offerLoading, shown, showVersions } from './version_table.js';

const SELDOM_EVERY_MS = 30_000;
/** How long a change is waited for: one that is given up may have been made. */
const CHANGE_MS = 60_000;
/** What is read now and then, whatever happens: how often, and what a server must offer for it. */
const READINGS = [
  { read: readQuality, every: 5000 },
  { read: readCurves, every: 15_000 },
  { read: readDrift, every: 15_000, offer: 'drift' },
  { read: readLog, every: 5000, offer: 'log' },
];

/** By server: several may answer at one address, and their figures must not be mixed. */
const servers = new Map();
/** How long one is still shown that is heard no more: one that was started anew is another one. */
const GONE_S = 5;
const GONE_S_EACH = 3;
const page = {
  now: null,
  models: null,
  split: null,
  status: null,
  environment: '',
  tell,
  changed,
  change,
  redraw,
};
let known = '';
let seldomReadAt = -Infinity;
const readAt = new Map();

const live = new Live({ after: newest, heard, lost });

/** The newest point that all servers have told; undefined where one of them is to tell everything. */
function newest() {
  const all = [...servers.values()];
  if (!all.length || all.some((server) => !server.form)) return undefined;
  return Math.min(...all.map((server) => server.series.last ?? 0));
}

function heard(answer) {
  const server = servers.get(answer.server) ?? {};
  servers.set(answer.server, server);
  if (answer.form || !server.series) server.series = new Series();
  server.series.add(answer.series);
  server.now = answer;
  server.form = answer.form ?? server.form;
  server.heardAt = performance.now();
  const gone = server.heardAt - 1000 * (GONE_S + GONE_S_EACH * servers.size);
  for (const [name, other] of servers) if (other.heardAt < gone) servers.delete(name);
  offer(
    byId('server'),
    [...servers.keys()].sort().map((name) => [name, name]),
  );
  byId('server').parentElement.hidden = servers.size < 2;
  if (byId('server').value === answer.server) showNow(answer);
}

function showNow(answer) {
  page.now = answer;
  colour(answer.versions.map((version) => version.version));
  const ready = byId('ready');
  say(ready, answer.not_ready ?? 'ready');
  ready.className = `pill ${answer.not_ready ? 'bad' : 'good'}`;
  byId('key').hidden = !answer.keys;
  const state = JSON.stringify([
    answer.server,
    answer.generation,
    answer.versions.map((version) => [version.version, version.state, version.failure]),
  ]);
  const at = performance.now();
  if (state !== known || at > seldomReadAt + SELDOM_EVERY_MS) {
    // What the model takes may be something else with another version.
    if (known && state !== known) servers.get(answer.server).form = null;
    known = state;
    seldomReadAt = at;
    readSeldom();
  }
  for (const { read, every, offer: offered } of READINGS) {
    if ((offered && !answer.offers.includes(offered)) || at <= (readAt.get(read) ?? -Infinity) + every) continue;
    readAt.set(read, at);
    read();
  }
  redraw();
}

/** Draw what is known. */
function redraw() {
  const { now, models } = page;
  if (!now) return;
  const server = servers.get(now.server);
  const versions = now.versions.map((version) => version.version).sort(naturally);
  showTiles(now);
  drawCharts(now, server.series, shown(versions), Number(byId('span').value), redraw);
  drawQualityOverTime(shown(versions));
  if (models) showVersions(models, now, page);
  if (page.split) {
    showSplit(page.split, now, page.status);
    offerSplit(page.split, versions, page);
    if (models) offerExperiment(page.split, models, page);
  }
  if (server.form) offerQuestion(server.form, versions, now.keys, now.offers.includes('explanations'));
}

/** What changes with the generation, or with the state of a version. */
async function readSeldom() {
  await quietly(async () => {
    const models = await ask('v1/models');
    colour(models.versions.map((version) => version.version));
    page.models = models;
    const environments = Object.keys(models.versions[0]?.weights ?? {});
    offer(
      byId('environment'),
      environments.map((name) => [name, name]),
    );
    page.split = await ask(
      `v1/traffic-split${page.environment ? `?environment=${encodeURIComponent(page.environment)}` : ''}`,
    );
    page.environment = byId('environment').value = page.split.environment;
    byId('environment').parentElement.hidden = environments.length < 2;
    redraw();
    await showHistory(page);
    showPast((await ask('v1/experiments')).experiments, page.environment);
  });
}

async function readQuality() {
  await quietly(async () => {
    try {
      page.status = await ask(
        `ab-test/status${page.environment ? `?environment=${encodeURIComponent(page.environment)}` : ''}`,
      );
    } catch (error) {
      loseExperiment();
      throw error;
    }
    showQuality(page.status);
    showExperiment(page.status.experiment, page.status.environment);
    await readEffects(page.status.experiment);
  });
}

function readCurves() {
  return quietly(async () => {
    await readQualityOverTime(page.environment, readCurves);
    redraw();
  });
}

async function readDrift() {
  const versions = page.now.versions.filter((version) => version.figures?.rows).map((version) => version.version);
  const all = page.now.versions.map((version) => version.version);
  await quietly(() => showDrift((versions.length ? versions : all).sort(naturally), readDrift));
}

function readLog() {
  return quietly(() => showLog(readLog));
}

/** What fails because nobody answers is said by the connection already. */
async function quietly(work) {
  try {
    await work();
  } catch (error) {
    known = '';
    if (error instanceof Refusal && error.status !== 401) tell(error.message, 'bad');
  }
}

/** Post a change, unless somebody else was faster: then it is refused, and says so. */
function change(path, body, generation = page.split?.generation) {
  const headers = generation ? { 'If-Match': `"${generation}"` } : {};
  return ask(path, { method: 'POST', body, headers, timeout: CHANGE_MS });
}

function changed(words) {
  tell(words, 'good');
  known = '';
  seldomReadAt = -Infinity;
  readAt.clear();
  live.now();
}

function tell(words, kind) {
  const message = byId('message');
  message.hidden = false;
  message.className = `message ${kind}`;
  say(message, words);
}

function lost(error) {
  const connection = byId('connection');
  say(
    connection,
    error === null ? 'live' : `${error instanceof Refusal ? error.message : 'connection lost'}; trying again`,
  );
  connection.className = `pill ${error === null ? 'good' : 'bad'}`;
  if (error !== null) loseExperiment();
  document.body.classList.toggle('stale', error !== null);
  if (error instanceof Refusal && error.status === 401) byId('key').hidden = false;
}

byId('environment').addEventListener('change', (event) => {
  page.environment = event.target.value;
  page.status = null;
  readSeldom().then(readQuality).then(readCurves);
});
byId('server').addEventListener('change', () => showNow(servers.get(byId('server').value).now));
byId('span').addEventListener('change', redraw);
byId('key').addEventListener('click', async () => {
  if (await askForKey('A key that is given takes the place of the one that is used now.')) live.now();
});
offerLoading(page);
offerOlder(page);
offerStop(page);
live.start();
