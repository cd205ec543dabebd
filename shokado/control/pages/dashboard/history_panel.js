// The history of the routing: who changed what, when and why, and the way back.

import { confirmed } from './confirmation.js';
import { byId, element } from './elements.js';
import { ago } from './numbers.js';
import { ask } from './server.js';

const PAGE = 20;

let entries = [];

/** Read the newest changes. */
export async function showHistory(page) {
  const found = await ask(`v1/traffic-split/history?limit=${PAGE}`);
  entries = found.entries;
  render(page, found.entries.length);
}

/** The button that reads older ones. */
export function offerOlder(page) {
  byId('older').addEventListener('click', async () => {
    try {
      const found = await ask(`v1/traffic-split/history?limit=${PAGE}&before=${entries.at(-1).generation}`);
      entries = [...entries, ...found.entries];
      render(page, found.entries.length);
    } catch (error) {
      page.tell(error.message, 'bad');
    }
  });
}

function render(page, read) {
  byId('history').replaceChildren(...entries.map((entry, index) => item(entry, index === 0, page)));
  byId('older').hidden = read < PAGE;
}

function item(entry, newest, page) {
  const when = new Date(entry.at);
  const back = element(
    'button',
    {
      class: 'small',
      type: 'button',
      'aria-label': `Go back to generation ${entry.generation}`,
      on: { click: () => rollBack(entry, page) },
    },
    'Go back…',
  );
  return element(
    'li',
    {},
    element('span', { class: 'generation' }, `#${entry.generation}`),
    element(
      'div',
      {},
      element('p', {}, wordsOf(entry)),
      element(
        'p',
        { class: 'quiet' },
        `${entry.by || 'the configuration'}, `,
        element('time', { datetime: entry.at, title: when.toLocaleString() }, ago(when)),
        entry.why && `: ${entry.why}`,
      ),
    ),
    newest ? element('span', { class: 'quiet' }, 'now') : back,
  );
}

function wordsOf(entry) {
  const words = [];
  for (const [environment, fields] of Object.entries(entry.changed ?? {})) {
    for (const [field, { before, after }] of Object.entries(fields))
      words.push(`${environment}: ${field} ${value(before)} → ${value(after)}`);
  }
  if (entry.versions?.length) words.push(`${entry.action} ${entry.versions.join(', ')}`);
  return words.join('; ') || entry.action;
}

function value(told) {
  if (told === null) return 'none';
  if (typeof told === 'object')
    return Object.entries(told)
      .map(([name, weight]) => `${name} ${weight}`)
      .join(', ');
  return typeof told === 'boolean' ? (told ? 'on' : 'off') : String(told);
}

async function rollBack(entry, page) {
  const facts = Object.entries(entry.environments).map(
    ([name, content]) => `${name}: ${content.enabled ? value(content.weights) : `off, ${content.active} answers`}`,
  );
  const act = (why) =>
    page.change('v1/traffic-split/rollback', { generation: entry.generation, why }, entries[0].generation);
  if (await confirmed(`Go back to generation ${entry.generation}`, facts, act))
    page.changed(`The routing is as it was in generation ${entry.generation}.`);
}
