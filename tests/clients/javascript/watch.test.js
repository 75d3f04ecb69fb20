// Watches and informers.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import * as k8s from '@kubernetes/client-node';

import { config, core, eventually, makeNamespace } from './scope.js';

let namespace;
before(async () => {
  namespace = await makeNamespace();
});
after(() => core.deleteNamespace({ name: namespace }));

const path = () => `/api/v1/namespaces/${namespace}/configmaps`;
const create = (name, data) => core.createNamespacedConfigMap({ namespace, body: { metadata: { name }, data } });

test('a watch tells what happened since a version, until it is ended', async () => {
  const list = await core.listNamespacedConfigMap({ namespace });
  await create('a', { n: '1' });
  await core.replaceNamespacedConfigMap({ namespace, name: 'a', body: { metadata: { name: 'a' }, data: { n: '2' } } });
  await core.deleteNamespacedConfigMap({ namespace, name: 'a' });
  const seen = [];
  await new Promise((resolve, reject) => {
    const watch = new k8s.Watch(config);
    const query = { resourceVersion: list.metadata.resourceVersion, allowWatchBookmarks: true };
    const request = watch.watch(
      path(),
      query,
      (type, object) => {
        seen.push([type, object.metadata.name, object.data?.n]);
        if (type === 'DELETED') request.then((controller) => controller.abort());
      },
      (error) => (error && error.name !== 'AbortError' ? reject(error) : resolve()),
    );
  });
  assert.deepEqual(seen, [
    ['ADDED', 'a', '1'],
    ['MODIFIED', 'a', '2'],
    ['DELETED', 'a', '2'],
  ]);
});

test('a watch ends at its timeout', async () => {
  const ended = await new Promise((resolve) => {
    new k8s.Watch(config).watch(path(), { timeoutSeconds: 1 }, () => {}, resolve);
  });
  assert.ok(!ended || ended.name !== 'Error', String(ended));
});

test('an informer keeps what there is', async () => {
  await create('before', { n: '1' });
  const list = () => core.listNamespacedConfigMap({ namespace });
  const informer = k8s.makeInformer(config, path(), list);
  const events = [];
  for (const event of ['add', 'update', 'delete']) {
    informer.on(event, (object) => {
      if (object.metadata.name !== 'kube-root-ca.crt') events.push(`${event} ${object.metadata.name}`);
    });
  }
  informer.on('error', (error) => events.push(`error ${error}`));
  await informer.start();
  await eventually('the first object', () => informer.get('before', namespace));
  await create('later', { n: '1' });
  await eventually('the second object', () => informer.get('later', namespace));
  await core.replaceNamespacedConfigMap({ namespace, name: 'later', body: { metadata: { name: 'later' }, data: { n: '2' } } });
  await eventually('its change', () => informer.get('later', namespace).data.n === '2');
  await core.deleteNamespacedConfigMap({ namespace, name: 'later' });
  await eventually('its end', () => !informer.get('later', namespace));
  const seen = [...events];
  await informer.stop();
  assert.deepEqual(seen, ['add before', 'add later', 'update later', 'delete later']);
});

test('an informer with a selector sees objects come and go', async () => {
  const labelSelector = 'color=red';
  const list = () => core.listNamespacedConfigMap({ namespace, labelSelector });
  const informer = k8s.makeInformer(config, path(), list, labelSelector);
  await informer.start();
  await create('turns', {});
  const paint = (color) =>
    core.patchNamespacedConfigMap(
      { namespace, name: 'turns', body: { metadata: { labels: { color } } } },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
    );
  await paint('red');
  await eventually('it has come', () => informer.get('turns', namespace));
  await paint('blue');
  await eventually('it has gone', () => !informer.get('turns', namespace));
  await informer.stop();
});
