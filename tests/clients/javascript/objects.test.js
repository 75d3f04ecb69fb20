// The typed clients and the generic one: every verb, every patch, and how the server refuses.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import * as k8s from '@kubernetes/client-node';

import { apps, config, core, eventually, makeNamespace, patchOf, refused } from './scope.js';

let namespace;
before(async () => {
  namespace = await makeNamespace();
});
after(() => core.deleteNamespace({ name: namespace }));

const labels = { app: 'javascript' };
const pod = { nodeSelector: { javascript: 'nowhere' }, containers: [{ name: 'c', image: 'busybox' }] };
const template = { metadata: { labels }, spec: pod };
const jobTemplate = { metadata: { labels }, spec: { ...pod, restartPolicy: 'Never' } };
const workload = { replicas: 0, selector: { matchLabels: labels }, template };
const rule = { apiGroups: [''], resources: ['pods'], verbs: ['get'] };

// api, the end of its methods' names, what is in the object
const namespaced = [
  [k8s.CoreV1Api, 'ConfigMap', { data: { a: 'b' } }],
  [k8s.CoreV1Api, 'Secret', { stringData: { a: 'b' } }],
  [k8s.CoreV1Api, 'Service', { spec: { ports: [{ port: 80, targetPort: 'http' }] } }],
  [k8s.CoreV1Api, 'ServiceAccount', {}],
  [k8s.CoreV1Api, 'Endpoints', {}],
  [k8s.CoreV1Api, 'Pod', { spec: { ...pod, terminationGracePeriodSeconds: 0 } }],
  [k8s.CoreV1Api, 'PodTemplate', { template }],
  [k8s.CoreV1Api, 'ReplicationController', { spec: { replicas: 0, selector: labels, template } }],
  [
    k8s.CoreV1Api,
    'PersistentVolumeClaim',
    {
      spec: {
        accessModes: ['ReadWriteOnce'],
        storageClassName: 'by-hand',
        resources: { requests: { storage: '1Gi' } },
      },
    },
  ],
  [k8s.CoreV1Api, 'ResourceQuota', { spec: { hard: { 'count/widgets.example.com': '1' } } }],
  [k8s.CoreV1Api, 'LimitRange', { spec: { limits: [{ type: 'PersistentVolumeClaim', max: { storage: '9Gi' } }] } }],
  [k8s.AppsV1Api, 'Deployment', { spec: workload }],
  [k8s.AppsV1Api, 'ReplicaSet', { spec: workload }],
  [k8s.AppsV1Api, 'StatefulSet', { spec: { ...workload, serviceName: 's' } }],
  [k8s.AppsV1Api, 'DaemonSet', { spec: { selector: { matchLabels: labels }, template } }],
  [k8s.AppsV1Api, 'ControllerRevision', { revision: 1, data: { a: 'b' } }],
  [k8s.BatchV1Api, 'Job', { spec: { suspend: true, template: jobTemplate } }],
  [
    k8s.BatchV1Api,
    'CronJob',
    { spec: { schedule: '@yearly', suspend: true, jobTemplate: { spec: { template: jobTemplate } } } },
  ],
  [
    k8s.AutoscalingV2Api,
    'HorizontalPodAutoscaler',
    { spec: { maxReplicas: 2, scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'none' } } },
  ],
  [k8s.CoordinationV1Api, 'Lease', { spec: { holderIdentity: 'me', renewTime: new k8s.V1MicroTime() } }],
  [k8s.DiscoveryV1Api, 'EndpointSlice', { addressType: 'IPv4', endpoints: [{ addresses: ['192.0.2.1'] }] }],
  [k8s.NetworkingV1Api, 'Ingress', { spec: { defaultBackend: { service: { name: 'web', port: { number: 80 } } } } }],
  [k8s.NetworkingV1Api, 'NetworkPolicy', { spec: { podSelector: {} } }],
  [k8s.PolicyV1Api, 'PodDisruptionBudget', { spec: { minAvailable: '50%', selector: { matchLabels: { none: 'x' } } } }],
  [k8s.RbacAuthorizationV1Api, 'Role', { rules: [rule] }],
  [
    k8s.RbacAuthorizationV1Api,
    'RoleBinding',
    {
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'jane' }],
    },
  ],
];
const clusterWide = [
  [k8s.CoreV1Api, 'PersistentVolume', {
    spec: {
      capacity: { storage: '1Gi' },
      accessModes: ['ReadWriteOnce'],
      storageClassName: 'by-hand',
      hostPath: { path: '/tmp/none' },
    },
  }],
  [k8s.NodeV1Api, 'RuntimeClass', { handler: 'runc' }],
  [k8s.SchedulingV1Api, 'PriorityClass', { value: 7 }],
  [k8s.StorageV1Api, 'StorageClass', { provisioner: 'example.com/none' }],
  [k8s.NetworkingV1Api, 'IngressClass', { spec: { controller: 'example.com/none' } }],
  [k8s.RbacAuthorizationV1Api, 'ClusterRole', { rules: [rule] }],
];

async function life(api, suffix, kind, scope, content) {
  const client = config.makeApiClient(api);
  const call = (verb, request, options) => client[`${verb}${suffix}`]({ ...scope(), ...request }, options);
  const name = `js-${kind.toLowerCase()}`;
  const created = await call('create', { body: { metadata: { name, labels }, ...content } });
  assert.equal(created.metadata.name, name);
  assert.ok(created.metadata.creationTimestamp instanceof Date);
  await refused(409, 'AlreadyExists', call('create', { body: { metadata: { name }, ...content } }));
  const list = await call('list', { labelSelector: 'app=javascript', fieldSelector: `metadata.name=${name}` });
  assert.deepEqual(
    list.items.map((item) => item.metadata.uid),
    [created.metadata.uid],
  );
  const label = (key) => ({ metadata: { labels: { [key]: 'yes' } } });
  const patches = [
    [k8s.PatchStrategy.MergePatch, label('merge')],
    [k8s.PatchStrategy.StrategicMergePatch, label('strategic')],
    [k8s.PatchStrategy.JsonPatch, [{ op: 'add', path: '/metadata/labels/json', value: 'yes' }]],
  ];
  for (const [type, body] of patches) {
    await call('patch', { name, body }, patchOf(type));
  }
  const apiVersion = list.apiVersion;
  await call(
    'patch',
    { name, body: { apiVersion, kind, metadata: { name, labels: { applied: 'yes' } } }, fieldManager: 'javascript' },
    patchOf(k8s.PatchStrategy.ServerSideApply),
  );
  const expected = { ...labels, merge: 'yes', strategic: 'yes', json: 'yes', applied: 'yes' };
  await eventually('the update', async () => {
    const body = await call('read', { name });
    for (const key of Object.keys(expected)) assert.equal(body.metadata.labels[key], expected[key], key);
    body.metadata.annotations = { ...body.metadata.annotations, replaced: 'yes' };
    try {
      return await call('replace', { name, body });
    } catch (error) {
      assert.equal(error.code, 409, error.body);
      return undefined;
    }
  });
  assert.equal((await call('read', { name })).metadata.annotations.replaced, 'yes');
  await call('delete', { name });
  await eventually('it is gone', async () => {
    const left = await call('list', { fieldSelector: `metadata.name=${name}` });
    return left.items.length === 0;
  });
  await refused(404, 'NotFound', call('read', { name }));
}

for (const [api, kind, content] of namespaced) {
  test(`${kind} goes through its life`, () =>
    life(api, `Namespaced${kind}`, kind, () => ({ namespace }), content));
}
for (const [api, kind, content] of clusterWide) {
  test(`${kind} goes through its life`, () => life(api, kind, kind, () => ({}), content));
}

test('the generic client finds every kind by discovery', async () => {
  const client = k8s.KubernetesObjectApi.makeApiClient(config);
  const documents = k8s.loadAllYaml(`
apiVersion: v1
kind: ConfigMap
metadata: {name: generic, namespace: ${namespace}}
data: {a: "1"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: generic, namespace: ${namespace}}
spec:
  replicas: 0
  selector: {matchLabels: {app: generic}}
  template: {metadata: {labels: {app: generic}}, spec: {containers: [{name: c, image: busybox}]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: generic, namespace: ${namespace}}
rules: [{apiGroups: [""], resources: [pods], verbs: [get]}]
`);
  for (const body of documents) {
    const created = await client.create(body);
    assert.ok(created.metadata.uid);
    assert.equal((await client.read(body)).metadata.uid, created.metadata.uid);
    body.metadata.labels = { patched: 'yes' };
    await client.patch(body, undefined, undefined, 'javascript', true, k8s.PatchStrategy.ServerSideApply);
    const listed = await client.list(body.apiVersion, body.kind, namespace, undefined, undefined, undefined, undefined, 'patched=yes');
    assert.deepEqual(
      listed.items.map((item) => item.metadata.name),
      ['generic'],
    );
    await client.delete(body);
    await refused(404, 'NotFound', client.read(body));
  }
});

test('a list is read in pages', async () => {
  for (let number = 0; number < 5; number += 1) {
    await core.createNamespacedSecret({ namespace, body: { metadata: { name: `page-${number}` } } });
  }
  const names = [];
  let _continue;
  do {
    const page = await core.listNamespacedSecret({ namespace, limit: 2, _continue });
    names.push(...page.items.map((item) => item.metadata.name));
    _continue = page.metadata._continue;
  } while (_continue);
  assert.deepEqual(names, [0, 1, 2, 3, 4].map((number) => `page-${number}`));
  await core.deleteCollectionNamespacedSecret({ namespace });
  assert.deepEqual((await core.listNamespacedSecret({ namespace })).items, []);
});

test('scales and statuses are written apart', async () => {
  await apps.createNamespacedDeployment({ namespace, body: { metadata: { name: 'scaled' }, spec: workload } });
  const scale = await apps.readNamespacedDeploymentScale({ namespace, name: 'scaled' });
  assert.deepEqual([scale.kind, scale.spec.replicas ?? 0, scale.status.selector], ['Scale', 0, 'app=javascript']);
  await apps.patchNamespacedDeploymentScale(
    { namespace, name: 'scaled', body: { spec: { replicas: 2 } } },
    patchOf(k8s.PatchStrategy.MergePatch),
  );
  const read = await apps.readNamespacedDeploymentStatus({ namespace, name: 'scaled' });
  assert.equal(read.spec.replicas, 2);
});

test('what is invalid is told with all its causes', async () => {
  const body = { metadata: { name: 'UPPER' }, spec: { ...workload, replicas: -1 } };
  const status = await refused(422, 'Invalid', apps.createNamespacedDeployment({ namespace, body }));
  assert.deepEqual(
    status.details.causes.map((cause) => [cause.reason, cause.field]),
    [
      ['FieldValueInvalid', 'metadata.name'],
      ['FieldValueInvalid', 'spec.replicas'],
    ],
  );
  assert.match(status.message, /^Deployment\.apps "UPPER" is invalid: \[metadata\.name: Invalid value: "UPPER"/);
});

test('a namespace that is not there is named', async () => {
  const call = core.createNamespacedConfigMap({ namespace: 'nowhere', body: { metadata: { name: 'a' } } });
  assert.equal((await refused(404, 'NotFound', call)).message, 'namespaces "nowhere" not found');
});

test('a dry run leaves nothing', async () => {
  const body = { metadata: { name: 'dry' } };
  const made = await core.createNamespacedConfigMap({ namespace, body, dryRun: 'All' });
  assert.ok(made.metadata.uid);
  await refused(404, 'NotFound', core.readNamespacedConfigMap({ namespace, name: 'dry' }));
});
