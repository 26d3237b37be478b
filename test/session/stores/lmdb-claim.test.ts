import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { refuseNetworkDisk } from '../../../src/session/stores/lmdb/claim.ts';
import { LmdbLedger, LmdbStore } from '../../../src/session/stores/lmdb.ts';
import { anotherUser } from '../../services/another-user.ts';

let folder: string;
const servers: Server[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hf-claim-'));
});
afterEach(async () => {
  for (const server of servers.splice(0)) server.close();
  await rm(folder, { recursive: true, force: true });
});

const holders = () => readdirSync(folder).filter(name => name.startsWith('holder-'));

/** As a process of another pid namespace would be there. */
async function foreigner(path = folder): Promise<Server> {
  const server = createServer(socket => socket.destroy()).listen(
    join(path, 'holder-0123456789ab-4026-7-99-abcdef.sock'),
  );
  await new Promise(resolve => server.once('listening', resolve));
  servers.push(server);
  return server;
}

describe.skipIf(process.platform !== 'linux')('a folder of lmdb', () => {
  test('that a process of another container has open is refused, and not touched', async () => {
    await foreigner();
    for (const open of [() => new LmdbStore({ path: folder }), () => new LmdbLedger({ path: folder })]) {
      expect(open).toThrow(
        expect.objectContaining({
          code: 'ERR_SESSION_STORE_UNAVAILABLE',
          message: expect.stringMatching(/another pid namespace, such as another container.*stop the other one first/),
        }),
      );
    }
    expect(readdirSync(folder)).toEqual(['holder-0123456789ab-4026-7-99-abcdef.sock']);
  });

  test('that a process of another container had open until it was killed opens at once', async () => {
    const server = await foreigner();
    // What is left of one that was killed: the name, and nobody behind it.
    await writeFile(join(folder, 'holder-0123456789ab-4027-9-99-abcdee.sock'), '');
    servers.pop();
    await new Promise(resolve => server.close(resolve));
    await writeFile(join(folder, 'holder-0123456789ab-4026-7-99-abcdef.sock'), '');
    const store = new LmdbStore({ path: folder });
    expect(holders()).toHaveLength(1);
    await store.close();
  });

  test('says who has it open, for as long as it is open', async () => {
    const store = new LmdbStore({ path: folder });
    const ledger = new LmdbLedger({ path: folder });
    expect(holders()).toEqual([expect.stringMatching(new RegExp(`^holder-[0-9a-f]{12}-\\d+-${process.pid}-`))]);
    await store.close();
    expect(holders()).toHaveLength(1);
    await ledger.close();
    expect(holders()).toEqual([]);
  });

  test('forgets processes of its own namespace that were killed', async () => {
    const store = new LmdbStore({ path: folder });
    const [name] = holders();
    await store.close();
    await writeFile(join(folder, name!.replace(`-${process.pid}-`, '-4194304-')), '');
    const again = new LmdbStore({ path: folder });
    expect(holders()).toEqual([expect.stringContaining(`-${process.pid}-`)]);
    await again.close();
  });

  test('forgets who had its pid before: numbers of namespaces and processes are used again', async () => {
    const store = new LmdbStore({ path: folder });
    const [name] = holders();
    // A container whose process 1 was killed, again and again, in the same namespace by number.
    for (let time = 1; time <= 3; time++)
      await writeFile(join(folder, name!.replace(/-\d+(-[0-9a-f]+\.sock)$/, `-${time}$1`)), '');
    await store.close();
    const again = new LmdbStore({ path: folder });
    expect(holders()).toHaveLength(1);
    await again.close();
  });

  test.skipIf(!anotherUser)('is not refused for what another user has left and this one may not remove', async () => {
    await chmod(folder, 0o1777);
    const store = new LmdbStore({ path: folder });
    const [own] = holders();
    await store.close();
    const left = [own!.replace(`-${process.pid}-`, '-4194304-'), 'holder-0123456789ab-4026-7-99-abcdef.sock'];
    const leaving = `
      const net = require('node:net');
      for (const name of ${JSON.stringify(left)}) net.createServer().listen(${JSON.stringify(folder)} + '/' + name);
      process.kill(process.pid, 'SIGKILL');
    `;
    spawnSync(process.execPath, ['--eval', leaving]);
    for (const file of readdirSync(folder)) await chmod(join(folder, file), 0o666);
    const opening = `
      const { LmdbStore } = await import(${JSON.stringify(import.meta.resolve('../../../src/session/stores/lmdb.ts'))});
      await new LmdbStore({ path: ${JSON.stringify(folder)} }).close();
    `;
    const args = ['-C', 'holdfast-source', '--input-type=module', '--eval', opening];
    const opened = spawnSync(process.execPath, args, { ...anotherUser, encoding: 'utf8' });
    expect(opened.stderr).toBe('');
    expect(holders().sort()).toEqual(left.sort());
  });

  test('may lie deeper than the path of a socket may be long', async () => {
    const deep = join(folder, 'x'.repeat(100), 'y'.repeat(100));
    await mkdir(deep, { recursive: true });
    const store = new LmdbStore({ path: deep });
    const name = readdirSync(deep).find(file => file.startsWith('holder-'))!;
    expect(statSync(join(deep, name)).isSocket()).toBe(true);
    await store.close();
    expect(existsSync(join(deep, name))).toBe(false);
  });

  test('that cannot be opened is not said to be open', async () => {
    await mkdir(join(folder, 'data.mdb'));
    expect(() => new LmdbStore({ path: folder })).toThrow(/could not open/);
    expect(holders()).toEqual([]);
  });

  test.each([
    [0x6969, 'NFS'],
    [0xff534d42, 'CIFS'],
    [0xff534d42 | 0, 'CIFS'],
    [0xfe534d42, 'SMB'],
    [0x00c36400, 'Ceph'],
  ])('on a network disk is refused (%d: %s)', (type, name) => {
    expect(() => refuseNetworkDisk('/data', type)).toThrow(
      expect.objectContaining({ code: 'ERR_SESSION_STORE_UNAVAILABLE', message: expect.stringContaining(name) }),
    );
  });

  test('on a local disk is not', () => {
    for (const type of [0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x794c7630, 0x2fc12fc1])
      expect(() => refuseNetworkDisk('/data', type)).not.toThrow();
  });
});
