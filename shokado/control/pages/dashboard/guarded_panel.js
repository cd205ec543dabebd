// A panel of what is told to admins alone: whoever has another key is offered to show one, and is not asked for it.

import { element } from './elements.js';
import { askForKey, Refusal } from './server.js';

/** Panels that were refused, which ask no more until another key is given. */
const refused = new Set();

/** Show the panel and have `read` fill its table; `again` is called when another key was given. */
export async function guarded(panel, table, again, read) {
  panel.hidden = false;
  if (refused.has(panel)) return;
  try {
    await read();
  } catch (error) {
    if (!(error instanceof Refusal) || ![401, 403].includes(error.status)) throw error;
    refused.add(panel);
    const give = async () => {
      if (!(await askForKey('This tells of single rows, and needs a key of the role admin.'))) return;
      refused.delete(panel);
      again();
    };
    const button = element('button', { type: 'button', on: { click: give } }, 'Show with another key…');
    table.replaceChildren(element('tbody', {}, element('tr', {}, element('td', {}, button))));
  }
}
