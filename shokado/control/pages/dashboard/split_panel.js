// The split of an environment: as configured and as seen, and a change of it, with a preview of who would move.

import { swatch, variableOf } from './colours.js';
import { confirmed } from './confirmation.js';
import { byId, element, say } from './elements.js';
import { partOf } from './experiment_words.js';
import { naturally, percent } from './numbers.js';
import { chooseUnits, previewChange } from './split_preview.js';

let edited = '';

/** Show the shares: `split` of `/v1/traffic-split`, seen in the last minute (`now`) and in the A/B test's window. */
export function showSplit(split, now, status) {
  const facts = [
    split.enabled ? `by ${split.strategy}` : `off: ${split.active} answers`,
    `active ${split.active}`,
    split.shadow && `shadow ${split.shadow}`,
    split.layer?.outside && `for ${partOf(split.layer)}, outside ${split.layer.outside}`,
    `generation ${split.generation}`,
  ].filter(Boolean);
  say(byId('split-facts'), facts.join(' · '));
  const requests = new Map(now.versions.map((one) => [one.version, one.figures?.requests ?? 0]));
  const total = [...requests.values()].reduce((sum, value) => sum + value, 0);
  const versions = [
    ...new Set([
      ...Object.keys(split.weights),
      split.active,
      ...[...requests].filter(([, count]) => count).map(([version]) => version),
    ]),
  ];
  const told = versions
    .sort(naturally)
    .map((version) => [
      version,
      split.enabled ? (split.shares[version] ?? 0) : Number(version === split.active),
      total ? requests.get(version) / total : null,
      status?.versions[version] ? (status.versions[version].traffic ?? null) : null,
    ]);
  const table = byId('shares');
  const heads = ['Version', 'Configured', 'Seen, last minute', `Seen, ${status ? status.window_hours : '–'} h`];
  const notes = [null, null, 'all environments', split.environment];
  table.replaceChildren(
    element(
      'thead',
      {},
      element(
        'tr',
        {},
        heads.map((head, index) =>
          element('th', { scope: 'col' }, head, notes[index] && element('small', {}, notes[index])),
        ),
      ),
    ),
    element(
      'tbody',
      {},
      told.map(([version, ...shares]) =>
        element(
          'tr',
          {},
          element('th', { scope: 'row' }, swatch(version), version),
          shares.map((share) => element('td', {}, percent(share), bar(version, share))),
        ),
      ),
    ),
  );
}

function bar(version, share) {
  const filled = element('span');
  filled.style.width = `${100 * (share ?? 0)}%`;
  filled.style.background = `var(${variableOf(version)})`;
  return element('span', { class: 'bar' }, filled);
}

/** The form that changes the split; made anew when the environment, its split or the versions are other ones. */
export function offerSplit(split, versions, page) {
  const told = JSON.stringify([split.environment, split.generation, versions]);
  if (told === edited) return;
  edited = told;
  const weight = (version) =>
    element('input', {
      name: `weight ${version}`,
      type: 'number',
      min: 0,
      step: 'any',
      value: split.weights[version] ?? 0,
    });
  const select = (name, options, value) =>
    element(
      'select',
      { name, value },
      options.map(([key, text]) => element('option', { value: key, selected: key === value }, text)),
    );
  const named = versions.map((version) => [version, version]);
  const preview = element('div', { 'aria-live': 'polite' });
  const form = element(
    'form',
    { id: 'split' },
    element(
      'fieldset',
      {},
      element('legend', {}, 'Weights, relative to their sum'),
      element(
        'div',
        { class: 'fields' },
        versions.map((version) => element('label', {}, element('span', {}, swatch(version), version), weight(version))),
      ),
    ),
    element(
      'div',
      { class: 'row' },
      element(
        'label',
        {},
        'Strategy ',
        select(
          'strategy',
          [
            ['random', 'random'],
            ['hash', 'hash: a unit stays'],
            ['weighted', 'weighted: by success'],
          ],
          split.strategy,
        ),
      ),
      element('label', {}, 'Shadow ', select('shadow', [['', 'none'], ...named], split.shadow ?? '')),
      element(
        'label',
        { class: 'shown' },
        element('input', { name: 'enabled', type: 'checkbox', checked: split.enabled }),
        'split the traffic',
      ),
    ),
    chooseUnits(),
    element(
      'div',
      { class: 'row' },
      element(
        'button',
        { type: 'button', on: { click: () => previewChange(form, split, changeOf(form, split), preview) } },
        'Preview',
      ),
      element('button', { class: 'main' }, 'Change…'),
    ),
    preview,
  );
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    const change = changeOf(form, split);
    const facts = wordsOf(change, split);
    if (!facts.length) return page.tell('That is the split as it is.', 'warn');
    const act = (why) =>
      page.change('v1/traffic-split', { environment: split.environment, ...change, why }, split.generation);
    if (await confirmed(`Change the split of ${split.environment}`, facts, act))
      page.changed(`The split of ${split.environment} is changed.`);
  });
  byId('split').replaceWith(form);
}

/** What the form says otherwise than the split. */
function changeOf(form, split) {
  const fields = form.elements;
  const weights = {};
  for (const input of form.querySelectorAll('[name^="weight "]')) {
    const version = input.name.slice('weight '.length);
    const value = input.value === '' ? 0 : Number(input.value);
    if (value || version in split.weights) weights[version] = value;
  }
  const changed = {};
  const versions = new Set([...Object.keys(weights), ...Object.keys(split.weights)]);
  if ([...versions].some((version) => (weights[version] ?? 0) !== (split.weights[version] ?? 0)))
    changed.weights = weights;
  if (fields.strategy.value !== split.strategy) changed.strategy = fields.strategy.value;
  if (fields.enabled.checked !== split.enabled) changed.enabled = fields.enabled.checked;
  if ((fields.shadow.value || null) !== split.shadow) changed.shadow = fields.shadow.value || null;
  return changed;
}

function wordsOf(change, split) {
  const facts = [];
  if (change.weights) {
    const total = Object.values(change.weights).reduce((sum, value) => sum + value, 0);
    for (const [version, value] of Object.entries(change.weights)) {
      facts.push(`${version}: from ${percent(split.shares[version] ?? 0)} to ${percent(total ? value / total : 0)}`);
    }
  }
  if (change.strategy) facts.push(`strategy: from ${split.strategy} to ${change.strategy}`);
  if ('enabled' in change)
    facts.push(change.enabled ? 'the split is switched on' : `the split is switched off: ${split.active} answers`);
  if ('shadow' in change) facts.push(change.shadow ? `shadow: ${change.shadow}` : 'no shadow any more');
  return facts;
}
