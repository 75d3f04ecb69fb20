// A namespace for a file of tests, and waiting.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import * as k8s from '@kubernetes/client-node';

export const config = new k8s.KubeConfig();
config.loadFromDefault();
export const core = config.makeApiClient(k8s.CoreV1Api);
export const apps = config.makeApiClient(k8s.AppsV1Api);

// Asks until the answer is something, and returns it.
export async function eventually(what, condition, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const answer = await condition();
    if (answer) return answer;
    if (Date.now() > end) assert.fail(`${what}: not within ${seconds} s`);
    await sleep(50);
  }
}

export async function makeNamespace() {
  const made = await core.createNamespace({ body: { metadata: { generateName: 'javascript-' } } });
  const namespace = made.metadata.name;
  await eventually('the default service account', async () => {
    const accounts = await core.listNamespacedServiceAccount({ namespace });
    return accounts.items.some((account) => account.metadata.name === 'default');
  });
  return namespace;
}

// Asserts that a call is refused, and returns the Status that says so.
export async function refused(code, reason, call) {
  const error = await call.then(
    () => assert.fail('it was not refused'),
    (error) => error,
  );
  assert.ok(error instanceof k8s.ApiException, String(error));
  const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
  assert.equal(error.code, code, JSON.stringify(status));
  assert.deepEqual(
    [status.kind, status.apiVersion, status.status, status.reason, status.code],
    ['Status', 'v1', 'Failure', reason, code],
  );
  return status;
}

export const patchOf = (type) => k8s.setHeaderOptions('Content-Type', type);
