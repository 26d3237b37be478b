import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { AdminClient } from '../../src/cli/admin-client.ts';
import { Served } from '../guard/served.ts';
import { Inspected, inspectable } from '../services/inspected.ts';

test('configurations of before, and the listeners that they had, leave the memory', async () => {
  const config = (version: number) =>
    `clientTimeout: ${60_000 + version}\nsession: { store: 'memory:' }\nroutes: [{ path: /a, redirect: /${version} }]\n`;
  await using server = await Served.yaml(config(0), { env: inspectable });
  const admin = new AdminClient(join(server.folder, '.holdfast/admin.sock'));
  const file = join(server.folder, 'holdfast.yaml');
  const listen = readFileSync(file, 'utf8').split('clientTimeout')[0]!;
  for (let version = 1; version <= 10; version++) {
    writeFileSync(file, listen + config(version));
    expect(await admin.post('/v1/reload')).toMatchObject({ ok: true });
    await fetch(`${server.url('http/1')}/a`, { redirect: 'manual', headers: { Connection: 'close' } });
  }
  using inspected = await Inspected.connect(server.program.stderr);
  const left = async () => {
    const census = await inspected.census();
    // Of the one in force (the admin API is a listener, too), and of one that leaves.
    return (census.get('object Http1Server') ?? 0) <= 5 && (census.get('object RunningRequests') ?? 0) <= 2;
  };
  await expect.poll(left, { timeout: 20_000, interval: 1_000 }).toBe(true);
}, 120_000);
