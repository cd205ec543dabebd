// Nothing is changed without being said once more, and why: the reason stays in the history.

import { element, byId } from './elements.js';

const MAX_WHY_CHARACTERS = 500;

/**
 * Ask whether to do `what`, whose consequences are `facts`, and why; then `act(why)`. What it raises is said in the
 * dialog, where it may be tried again. True when it was done.
 */
export function confirmed(what, facts, act) {
  const dialog = byId('confirmation');
  const why = element('textarea', { name: 'why', rows: 2, required: true, maxlength: MAX_WHY_CHARACTERS });
  const failure = element('p', { class: 'message bad', role: 'alert', hidden: true });
  const go = element('button', { class: 'main' }, what);
  const form = element(
    'form',
    {},
    element('h2', { id: 'confirmation-title' }, `${what}?`),
    facts.length
      ? element(
          'ul',
          {},
          facts.map((fact) => element('li', {}, fact)),
        )
      : null,
    element('label', {}, 'Why (it stays in the history)', why),
    failure,
    element(
      'div',
      { class: 'buttons' },
      element('button', { type: 'button', on: { click: () => dialog.close() } }, 'Cancel'),
      go,
    ),
  );
  let done = false;
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    go.disabled = true;
    failure.hidden = true;
    try {
      await act(why.value.trim());
      done = true;
      dialog.close();
    } catch (error) {
      failure.textContent = error.message;
      failure.hidden = false;
    }
    go.disabled = false;
  });
  dialog.replaceChildren(form);
  dialog.showModal();
  why.focus();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(done), { once: true }));
}
