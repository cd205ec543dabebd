// The server that this page came from: its routes, and the key that it wants. The key is in memory only, and is gone
// with the page.

import { element, byId } from './elements.js';

const base = new URL(document.documentElement.dataset.base, location.href);
let key = '';
let asking = null;
/** Whoever looks at the page would rather give no key: then only what they do themselves asks again. */
let declined = false;

/** What the server refused, in its own words. */
export class Refusal extends Error {
  constructor(status, code, message, retryAfter) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export const address = (path) => new URL(path, base).href;

export const hasKey = () => key !== '';

/**
 * Ask a route for JSON. Raises `Refusal`, and `TypeError` or `TimeoutError` where nobody answers. What is `optional` asks
 * nobody for a key.
 */
export async function ask(path, { method = 'GET', body, headers = {}, timeout = 10_000, optional = false } = {}) {
  for (;;) {
    const shown = key;
    const answer = await fetch(address(path), {
      method,
      headers: {
        Accept: 'application/json',
        ...(shown && { 'X-API-Key': shown }),
        ...(body !== undefined && { 'Content-Type': 'application/json' }),
        ...headers,
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(timeout),
      cache: 'no-store',
      credentials: 'omit',
    });
    if (answer.ok) return answer.json();
    const refusal = await refusalOf(answer);
    const wantsKey = answer.status === 401 || refusal.code === 'forbidden';
    if (!wantsKey || optional || (declined && method === 'GET')) throw refusal;
    if (shown === key && !(await askForKey(refusal.message))) throw refusal;
  }
}

async function refusalOf(answer) {
  let told = null;
  try {
    told = await answer.json();
  } catch {
    // Whoever stands between may answer with a page.
  }
  const error = told?.error ?? {};
  const message = typeof error === 'string' ? error : error.message;
  const after = Number(answer.headers.get('Retry-After'));
  return new Refusal(answer.status, error.code ?? '', message ?? `${answer.status} ${answer.statusText}`, after || 0);
}

/** Ask whoever looks at the page for a key, once for all who need one; false when they would rather not. */
export function askForKey(why) {
  asking ??= keyDialog(why).finally(() => (asking = null));
  return asking;
}

function keyDialog(why) {
  const dialog = byId('key-dialog');
  const input = element('input', {
    type: 'password',
    name: 'key',
    required: true,
    autocomplete: 'off',
    spellcheck: 'false',
  });
  const form = element(
    'form',
    { method: 'dialog' },
    element('h2', { id: 'key-title' }, 'This server asks for a key'),
    element('p', {}, why),
    element('label', {}, 'Key', input),
    element(
      'p',
      { class: 'quiet' },
      'It is kept in this page alone, until it is closed or loaded anew. Changes need a key of the role admin.',
    ),
    element(
      'div',
      { class: 'buttons' },
      element('button', { type: 'button', on: { click: () => dialog.close('') } }, 'Cancel'),
      element('button', { class: 'main', value: 'given' }, 'Use this key'),
    ),
  );
  dialog.replaceChildren(form);
  dialog.returnValue = '';
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    dialog.addEventListener(
      'close',
      () => {
        const given = dialog.returnValue === 'given' && input.value.trim();
        if (given) key = given;
        declined = !given;
        dialog.replaceChildren();
        resolve(Boolean(given));
      },
      { once: true },
    );
  });
}
