// A form made of what the model takes; it asks one version, or all of them side by side.

import { answersTo } from './answers.js';
import { byId, element, offer } from './elements.js';
import { inputsOf, rowOf } from './row_inputs.js';
import { address, hasKey } from './server.js';

const SPLIT = '';
const ALL = ' all';
let made = '';

/** Make the form for the model; `form` is as `/v1/dashboard` has it, and `explains` whether it tells why as well. */
export function offerQuestion(model, versions, keys, explains) {
  const told = JSON.stringify([model, explains]);
  if (told !== made) build(model, keys, explains);
  made = told;
  offerVersions(byId('asked-version'), versions);
}

function offerVersions(select, versions) {
  offer(select, [
    [SPLIT, 'as the split has it'],
    [ALL, 'all, side by side'],
    ...versions.map((version) => [version, version]),
  ]);
}

function build(model, keys, explains) {
  byId('takes').textContent = `takes ${model.takes}`;
  const inputs = inputsOf(model);
  const answers = element('div', { class: 'wide', 'aria-live': 'polite' });
  const command = element(
    'pre',
    { role: 'region', 'aria-label': 'The same in a terminal', tabindex: 0 },
    element('code'),
  );
  const unit = element('input', { name: 'unit', autocomplete: 'off', spellcheck: 'false' });
  const select = element('select', { id: 'asked-version', name: 'version' });
  const explain = element('input', { name: 'explain', type: 'checkbox' });
  const form = element(
    'form',
    { id: 'question' },
    element(
      'div',
      { class: 'fields' },
      inputs.map((input) => input.label),
    ),
    element(
      'div',
      { class: 'row' },
      element('label', {}, 'Version ', select),
      element('label', {}, 'Unit ', unit),
      explains && element('label', { class: 'shown' }, explain, 'and why'),
      element('button', { class: 'main' }, 'Predict'),
    ),
    answers,
    element('details', {}, element('summary', {}, 'The same in a terminal'), command),
  );
  const bodyOf = (version) => {
    const row = rowOf(model, inputs);
    return { instances: [row], ...(version && { version }), ...(unit.value && { unit: unit.value }) };
  };
  const say = () =>
    (command.firstChild.textContent = curl(
      model.path,
      bodyOf(select.value === ALL ? SPLIT : select.value),
      keys || hasKey(),
    ));
  form.addEventListener('input', say);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const versions =
      select.value === ALL
        ? [...select.options].map((option) => option.value).filter((value) => ![SPLIT, ALL].includes(value))
        : [select.value];
    const bodies = versions.map((version) => [version, bodyOf(version)]);
    answers.replaceChildren(await answersTo(model.path, bodies, explain.checked));
  });
  byId('question').replaceWith(form);
  say();
}

/** The command of a POSIX shell that asks the same. */
function curl(path, body, keyed) {
  const quoted = (text) => `'${text.replaceAll("'", `'"'"'`)}'`;
  const lines = [`curl ${quoted(address(path.slice(1)))}`, "-H 'Content-Type: application/json'"];
  if (keyed) lines.push("-H 'X-API-Key: YOUR-KEY'");
  return [...lines, `-d ${quoted(JSON.stringify(body, null, 2))}`].join(' \\\n  ');
}
