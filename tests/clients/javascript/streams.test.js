// A pod that runs: its log, commands in it, its ports, files into it.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { after, before, test } from 'node:test';

import * as k8s from '@kubernetes/client-node';

import { config, core, eventually, makeNamespace } from './scope.js';

let namespace;
const script = 'mkdir /www; echo served > /www/index.html; httpd -p 8080 -h /www; echo one; echo two; cat';

before(async () => {
  namespace = await makeNamespace();
  const container = { name: 'c', image: 'busybox', command: ['sh', '-c', script], stdin: true };
  const spec = { terminationGracePeriodSeconds: 0, containers: [container] };
  await core.createNamespacedPod({ namespace, body: { metadata: { name: 'p' }, spec } });
  await eventually(
    'the pod is ready',
    async () => {
      const pod = await core.readNamespacedPod({ namespace, name: 'p' });
      return pod.status.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True');
    },
    90,
  );
});
after(() => core.deleteNamespace({ name: namespace }));

function collector() {
  const parts = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      parts.push(Buffer.from(chunk));
      done();
    },
  });
  stream.text = () => Buffer.concat(parts).toString();
  return stream;
}

async function exec(command, { stdin = null, tty = false } = {}) {
  const [stdout, stderr] = [collector(), collector()];
  const status = await new Promise((resolve, reject) => {
    new k8s.Exec(config).exec(namespace, 'p', 'c', command, stdout, stderr, stdin, tty, resolve).catch(reject);
  });
  return { stdout: stdout.text(), stderr: stderr.text(), status };
}

test('a command has streams and a status', async () => {
  const good = await exec(['sh', '-c', 'echo out; echo err >&2']);
  assert.deepEqual([good.stdout, good.stderr, good.status.status], ['out\n', 'err\n', 'Success']);
  const bad = await exec(['sh', '-c', 'exit 7']);
  assert.deepEqual([bad.status.status, bad.status.reason], ['Failure', 'NonZeroExitCode']);
  assert.deepEqual(bad.status.details.causes, [{ reason: 'ExitCode', message: '7' }]);
});

test('a command reads what it is sent', async () => {
  const stdin = new PassThrough();
  stdin.write('hello\n');
  const { stdout } = await exec(['head', '-n', '1'], { stdin });
  assert.equal(stdout, 'hello\n');
});

test('a log is read and followed', async () => {
  const log = await eventually('two lines', async () => {
    const text = await core.readNamespacedPodLog({ namespace, name: 'p' });
    return text.includes('two') && text;
  });
  assert.equal(log, 'one\ntwo\n');
  const followed = collector();
  const controller = await new k8s.Log(config).log(namespace, 'p', 'c', followed, { follow: true, tailLines: 1 });
  await eventually('the last line', () => followed.text() === 'two\n');
  controller.abort();
});

test('a port is forwarded', async () => {
  const forward = new k8s.PortForward(config);
  const server = net.createServer((socket) => {
    forward.portForward(namespace, 'p', [8080], socket, null, socket);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    for (let turn = 0; turn < 2; turn += 1) {
      const answer = await new Promise((resolve, reject) => {
        const socket = net.connect(server.address().port, '127.0.0.1');
        let text = '';
        socket.on('data', (part) => {
          text += part;
          if (text.endsWith('served\n')) {
            socket.destroy();
            resolve(text);
          }
        });
        socket.on('error', reject);
        socket.on('close', () => resolve(text));
        socket.write('GET /index.html HTTP/1.0\r\nHost: p\r\n\r\n');
      });
      assert.match(answer, /^HTTP\/1\.[01] 200 OK[^]*served\n$/);
    }
  } finally {
    server.close();
  }
});

test('files are copied into a pod', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'skiff-javascript-'));
  try {
    await writeFile(join(directory, 'sent'), 'a file');
    await new k8s.Cp(config).cpToPod(namespace, 'p', 'c', directory, '/tmp');
    await eventually('the file is there', async () => (await exec(['cat', '/tmp/sent'])).stdout === 'a file');
  } finally {
    await rm(directory, { recursive: true });
  }
});
