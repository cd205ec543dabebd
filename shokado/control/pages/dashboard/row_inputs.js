// What a row is typed into: an input for each feature, made of its type, levels and example.

import { element } from './elements.js';
import { short } from './numbers.js';

/** An input with its label for each feature of the model's form. */
export const inputsOf = (model) => model.features.map((feature) => inputOf(feature, exampleOf(model, feature)));

/** The features' example; a text alone is the example itself. */
const exampleOf = (model, feature) =>
  typeof model.instance === 'object' ? model.instance[feature.name] : model.instance;

function inputOf(feature, example) {
  const notes = [
    feature.type,
    feature.range && `mostly ${short(feature.range[0])} to ${short(feature.range[1])}`,
    feature.nullable && 'may be missing',
    feature.versions && `for ${feature.versions.join(', ')}`,
  ].filter(Boolean);
  const blank = example === null || example === undefined;
  const value = blank ? '' : String(example);
  const label = element(
    'label',
    { class: feature.type === 'text' ? 'text' : null, title: feature.description },
    feature.name,
  );
  let input;
  if (feature.type === 'text') input = element('textarea', { rows: 2, value });
  else if (feature.type === 'boolean')
    input = choice(
      [...(feature.nullable ? [['', 'missing']] : []), ['true', 'true'], ['false', 'false']],
      value === '1' ? 'true' : value === '0' ? 'false' : value,
    );
  else if (feature.levels.length && !feature.other)
    input = choice(
      [...(feature.nullable ? [['', 'missing']] : []), ...feature.levels.map((level) => [level, level])],
      value,
    );
  else
    input = element('input', {
      value,
      autocomplete: 'off',
      spellcheck: 'false',
      inputmode: feature.levels.length ? 'text' : 'decimal',
    });
  label.append(input);
  if (feature.levels.length && feature.other) {
    const list = element(
      'datalist',
      { id: `levels-${feature.name}` },
      feature.levels.map((level) => element('option', { value: level })),
    );
    input.setAttribute('list', list.id);
    label.append(list);
  }
  label.append(element('small', {}, notes.join(', ')));
  return { feature, label, input };
}

function choice(options, value) {
  const select = element(
    'select',
    {},
    options.map(([key, text]) => element('option', { value: key }, text)),
  );
  select.value = value;
  return select;
}

/** The row that the inputs say, by name; of a text alone the text. */
export function rowOf(model, inputs) {
  if (typeof model.instance !== 'object') return inputs[0].input.value;
  // A feature that not all versions take is left out where nothing is said of it.
  const said = inputs.filter(({ feature, input }) => !(feature.versions && input.value.trim() === ''));
  return Object.fromEntries(said.map(({ feature, input }) => [feature.name, valueOf(feature, input.value)]));
}

/** As JSON has it; what is no number goes as it was typed, for the server to say what is wrong with it. */
function valueOf(feature, text) {
  if (feature.type === 'text') return text;
  if (text.trim() === '') return null;
  if (feature.type === 'boolean') return text === 'true';
  if (feature.levels.length) return text;
  const number = Number(text);
  return Number.isFinite(number) ? number : text;
}
