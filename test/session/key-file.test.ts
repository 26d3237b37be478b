import { spawn } from 'node:child_process';
import { createHmac, hash, randomBytes } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createServer, type Server } from '../../src/index.ts';
import { signingKeys } from '../../src/server/assembly/session-contexts.ts';
import { KeyRing, loadOrCreateKey } from '../../src/session/identity/key-ring.ts';
import { Tickets } from '../../src/session/identity/ticket.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { MemoryStore } from '../../src/session/stores/memory.ts';
import { anotherUser } from '../services/another-user.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-key-file-'));
});
afterAll(() => rm(folder, { recursive: true }));

let count = 0;
async function file(content: string | Uint8Array): Promise<string> {
  const own = join(folder, `${count++}`);
  await mkdir(own);
  await writeFile(join(own, 'session.key'), content);
  return join(own, 'session.key');
}
const folderOf = (path: string) => join(path, '..');

/** A store that outlives the servers and managers of a test. */
function sharedStore(): MemoryStore {
  return Object.assign(new MemoryStore(), { close: async () => {} });
}

const routes = [
  {
    path: '/',
    session: 'create',
    fetch: (_request: Request, { session }: { session?: { id: string } }) => new Response(session!.id),
  },
];

async function withServer<T>(session: object, work: (url: string, server: Server) => Promise<T>): Promise<T> {
  const config = { listen: [{ port: 0, host: '127.0.0.1' }], session, routes };
  const server = createServer(config as never);
  await server.start();
  try {
    return await work(server.urls[0]!, server);
  } finally {
    await server.stop();
  }
}

async function visit(url: string, cookie?: string): Promise<{ sid: string; cookie: string }> {
  const answer = await fetch(url, cookie === undefined ? {} : { headers: { cookie } });
  const given = answer.headers.getSetCookie()[0]?.split(';')[0];
  return { sid: await answer.text(), cookie: given ?? cookie! };
}

/** As `attachSession` does: the sid that a manager finds with this cookie. */
async function sidIn(store: MemoryStore, keys: readonly (string | Uint8Array)[], cookie: string): Promise<unknown> {
  const manager = new SessionManager({ store, keys, cookie: { name: cookie.split('=')[0]! } });
  const binding = manager.bind({ cookieHeader: cookie, isSecure: false, isDocumentNavigation: false });
  try {
    return (await binding.get())?.id;
  } finally {
    binding.release();
    await manager.close();
  }
}

const KEY = Buffer.from(`${'3f'.repeat(31)}fb`, 'hex');
const BINARY = Buffer.from([...Array(31).keys()].map(index => index * 8 + 9).concat(0x20));

/** What a file may hold: everything that makes a key is one, whoever reads it. */
const FORMS: readonly (readonly [name: string, content: string | Uint8Array])[] = [
  ['what loadOrCreateKey writes', `${KEY.toString('base64url')}\n`],
  ['openssl rand -base64 32', `${KEY.toString('base64')}\n`],
  ['openssl rand -hex 32', `${KEY.toString('hex')}\n`],
  ['hexadecimal in capitals', KEY.toString('hex').toUpperCase()],
  ['without a line end', KEY.toString('base64')],
  ['with the line end of Windows', `${KEY.toString('base64')}\r\n`],
  ['with a byte order mark', `\ufeff${KEY.toString('base64')}\r\n`],
  ['with blanks around', `\n  ${KEY.toString('base64url')} \t\n\n`],
];

describe('a key file', () => {
  test.each(FORMS)('is one key for a data folder and under keyFiles: %s', async (_name, content) => {
    const path = await file(content);
    expect(Buffer.from(await loadOrCreateKey(folderOf(path)))).toEqual(KEY);
    const store = sharedStore();
    // A program with the key of the folder, then a server that names the file, and back.
    await withServer({ store, keyFiles: [path] }, async url => {
      const visitor = await visit(url);
      expect(await sidIn(store, [await loadOrCreateKey(folderOf(path))], visitor.cookie)).toBe(visitor.sid);
      const manager = new SessionManager({
        store,
        keys: [await loadOrCreateKey(folderOf(path))],
        cookie: { name: visitor.cookie.split('=')[0]! },
      });
      const binding = manager.bind({ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false });
      const session = await binding.open();
      session.set('a', 1);
      await binding.commit();
      const cookie = binding.responseHeaders()[0]!.value.split(';')[0]!;
      binding.release();
      expect((await visit(url, cookie)).sid).toBe(session.id);
      await manager.close();
    });
  });

  /** Ways of writing one key, and of handing it to a program. */
  const lines = (text: string, width: number) => text.replaceAll(new RegExp(`.{${width}}(?=.)`, 'g'), '$&\n');
  const writings = (key: Buffer): readonly (readonly [name: string, content: string | Uint8Array])[] => [
    ['as bytes', key],
    ['in base64', key.toString('base64')],
    ['in base64 with a line end', `${key.toString('base64')}\n`],
    ['in base64 with the line end of Windows', `${key.toString('base64')}\r\n`],
    ['in base64 without padding', key.toString('base64').replaceAll('=', '')],
    ['in base64url', `${key.toString('base64url')}\n`],
    ['in base64url with padding', key.toString('base64').replaceAll('+', '-').replaceAll('/', '_')],
    ['in hexadecimal capitals with a line end', `${key.toString('hex').toUpperCase()}\n`],
    ['in lines of xxd -p', `${lines(key.toString('hex'), 60)}\n`],
    ['in lines of openssl', `${lines(key.toString('base64'), 64)}\n`],
    ['in lines of base64', `${lines(key.toString('base64'), 76)}\n`],
  ];
  const LONG_KEY = Buffer.concat([KEY, Buffer.from(KEY).reverse(), Buffer.of(0xfb, 0xef)]);

  test.each([
    ['32 bytes', KEY],
    ['66 bytes', LONG_KEY],
    ['bytes that begin as UTF-16 does', Buffer.concat([Buffer.of(0xff, 0xfe), KEY.subarray(2)])],
  ])('is one key for whoever names it, and for who has what is in it: %s', async (_name, key) => {
    const holders: [string, string, KeyRing][] = [];
    for (const [name, content] of writings(key)) {
      const path = await file(content);
      holders.push([name, 'named', new KeyRing(await signingKeys({ keyFiles: [path] }, undefined as never))]);
      holders.push([name, 'of a data folder', new KeyRing([await loadOrCreateKey(folderOf(path))])]);
      holders.push([name, 'given', new KeyRing([await readFile(path)])]);
    }
    const strangers: string[] = [];
    for (const [name, how, one] of holders)
      for (const [otherName, otherHow, other] of holders) {
        const isKnown = other.verify(one.signingKeyId, 'x', one.sign('x'));
        if (!isKnown) strangers.push(`${name}, ${how}: not known to ${otherName}, ${otherHow}`);
      }
    expect(strangers).toEqual([]);
  });

  test('that a server names, and a program reads as it is, is one key in the cookies of both', async () => {
    for (const content of [`${KEY.toString('base64')}\n`, BINARY, randomBytes(32)]) {
      const path = await file(content);
      const store = sharedStore();
      await withServer({ store, keyFiles: [path] }, async url => {
        const visitor = await visit(url);
        expect(await sidIn(store, [await readFile(path)], visitor.cookie)).toBe(visitor.sid);
        expect((await visit(url, cookieWith(visitor.cookie, await readFile(path)))).sid).toBe(visitor.sid);
      });
    }
  });

  test('of blanks only is no key that anybody can guess', () => {
    const keys = new KeyRing([' '.repeat(32)]);
    const guess = createHmac('sha256', '').update('x').digest('base64url');
    const idOf = (key: string) => hash('sha256', `holdfast key id\0${key}`, 'base64url').slice(0, 8);
    expect(keys.verify(idOf(''), 'x', guess)).toBe(false);
  });

  test('of a data folder, named under keyFiles of the next configuration, signs nobody out', async () => {
    const store = sharedStore();
    const dataFolder = join(folder, 'data');
    const config = { listen: [{ port: 0, host: '127.0.0.1' }], dataFolder, routes };
    const first = createServer({ ...config, session: { store } } as never);
    await first.start();
    const visitor = await visit(first.urls[0]!);
    await first.stop();
    const keyFiles = [join(dataFolder, 'keys', 'session.key')];
    const second = createServer({ ...config, session: { store, keyFiles } } as never);
    await second.start();
    expect((await visit(second.urls[0]!, visitor.cookie)).sid).toBe(visitor.sid);
    await second.stop();
  });

  /** As the release before read what a configuration names: the text, as it stands, was the key. */
  const asBefore = (content: string | Uint8Array) => new KeyRingBefore(Buffer.from(content).toString().trim());

  test.each([
    ...FORMS,
    ['32 raw bytes', BINARY],
    ['raw bytes that are no text', randomBytes(48)],
    ['a long sentence', 'correct horse battery staple, and then some more of it'],
    ['UTF-16, as PowerShell writes it', Buffer.from(`\ufeff${KEY.toString('base64')}\r\n`, 'utf16le')],
    ['64 bytes in two lines', `${'A'.repeat(64)}\n${'B'.repeat(24)}\n`],
  ] as const)('verifies tickets of the release before, and is understood by it: %s', async (_name, content) => {
    const path = await file(content);
    const before = asBefore(content);
    const ticket = { sid: 's'.repeat(22), secret: 'x'.repeat(43) };
    const store = sharedStore();
    await store.create(ticket.sid, {
      header: { secretHash: hash('sha256', ticket.secret, 'base64url'), createdAt: Date.now() },
      version: 256,
      lastAccessedAt: Date.now(),
      attributes: new Map(),
    });
    await withServer({ store, keyFiles: [path] }, async url => {
      const fresh = await visit(url);
      const [name, value] = fresh.cookie.split('=') as [string, string];
      expect(before.verifies(decodeURIComponent(value))).toBe(true);
      expect((await visit(url, `${name}=${before.write(ticket)}`)).sid).toBe(ticket.sid);
    });
  });

  test('with raw bytes is one key for a data folder too, and is used as it is', async () => {
    const path = await file(BINARY);
    expect(Buffer.from(await loadOrCreateKey(folderOf(path)))).toEqual(BINARY);
    const store = sharedStore();
    await withServer({ store, keyFiles: [path] }, async url => {
      const visitor = await visit(url);
      expect(await sidIn(store, [await loadOrCreateKey(folderOf(path))], visitor.cookie)).toBe(visitor.sid);
      expect((await visit(url, cookieWith(visitor.cookie, BINARY))).sid).toBe(visitor.sid);
    });
  });

  function ticketOf(cookie: string) {
    const [, sid, secret] = cookie.split('=')[1]!.split('.');
    return { sid: sid!, secret: secret! };
  }
  function cookieWith(cookie: string, key: Uint8Array): string {
    return `${cookie.split('=')[0]}=${new Tickets(new KeyRing([key])).write(ticketOf(cookie))}`;
  }

  test.each(['', 'short', KEY.toString('base64url').slice(0, 20)])(
    'that is too short is refused: %j',
    async content => {
      const path = await file(content);
      await expect(withServer({ store: sharedStore(), keyFiles: [path] }, async () => {})).rejects.toThrow(
        /at least 32|keyFiles/,
      );
      await expect(loadOrCreateKey(folderOf(path))).rejects.toThrow(TypeError);
    },
  );

  test('that was cut off is refused in a data folder, and not taken for another key', async () => {
    const path = await file(KEY.toString('base64url').slice(0, 40));
    await expect(loadOrCreateKey(folderOf(path))).rejects.toThrow(/does not hold a session key/);
  });

  test.skipIf(!anotherUser)('is read where the process may neither own nor change it', async () => {
    // As a container's platform mounts a secret: a link to a file of root, readable by all.
    const path = await file(`${KEY.toString('base64url')}\n`);
    const mounted = join(folderOf(path), '..data');
    await mkdir(mounted);
    await writeFile(join(mounted, 'key'), await readFile(path));
    await chmod(join(mounted, 'key'), 0o444);
    await rm(path);
    await symlink(join('..data', 'key'), path);
    await chmod(folder, 0o755);
    const program = `
      const { loadOrCreateKey } = await import(${JSON.stringify(import.meta.resolve('../../src/session/index.ts'))});
      console.log(Buffer.from(await loadOrCreateKey(${JSON.stringify(folderOf(path))})).toString('hex'));
    `;
    const child = spawn(process.execPath, ['-C', 'holdfast-source', '--input-type=module', '--eval', program], {
      ...anotherUser,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(await Promise.all([text(child.stdout), text(child.stderr)])).toEqual([`${KEY.toString('hex')}\n`, '']);
    expect((await stat(join(mounted, 'key'))).mode & 0o777).toBe(0o444);
  });

  test.skipIf(!anotherUser)('that may not be read or made is said to be so, and not to be written anew', async () => {
    const path = await file(`${KEY.toString('base64url')}\n`);
    await chmod(path, 0o400);
    await chmod(folder, 0o755);
    const module = (name: string) => JSON.stringify(import.meta.resolve(`../../src/${name}`));
    const program = `
      const { createServer } = await import(${module('index.ts')});
      const { loadOrCreateKey } = await import(${module('session/index.ts')});
      const say = error => console.log(error.code, error.message);
      const config = { listen: [{ port: 0 }], routes: [] };
      await createServer({ ...config, session: { store: 'memory:', keyFiles: [${JSON.stringify(path)}] } }).start().catch(say);
      await loadOrCreateKey(${JSON.stringify(folderOf(path))}).catch(say);
      await loadOrCreateKey(${JSON.stringify(join(folderOf(path), 'new'))}).catch(say);
    `;
    const child = spawn(process.execPath, ['-C', 'holdfast-source', '--input-type=module', '--eval', program], {
      ...anotherUser,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines = (await text(child.stdout)).trim().split('\n');
    expect(lines).toEqual([
      expect.stringMatching(/^ERR_CONFIG_INVALID session\.keyFiles: cannot read .*permission denied/),
      expect.stringMatching(/^ERR_CONFIG_INVALID cannot read .*permission denied.*let this user read it/),
      expect.stringMatching(/^ERR_CONFIG_INVALID cannot make .*permission denied.*let this user write to its folder/),
    ]);
    expect(lines.join()).not.toContain('openssl');
  });

  test('that a group shares stays as it is', async () => {
    const path = await file(`${KEY.toString('base64url')}\n`);
    await chmod(path, 0o640);
    await loadOrCreateKey(folderOf(path));
    expect((await stat(path)).mode & 0o777).toBe(0o640);
  });
});

/** The keys of the release before: each is the bytes that it is given, and nothing else. */
class KeyRingBefore {
  readonly #key: Buffer;
  readonly #id: string;

  constructor(key: string) {
    this.#key = Buffer.from(key);
    this.#id = hash('sha256', Buffer.concat([Buffer.from('holdfast key id\0'), this.#key]), 'base64url').slice(0, 8);
  }

  write({ sid, secret }: { sid: string; secret: string }): string {
    const signed = `v1.${sid}.${secret}.${this.#id}.`;
    return signed + this.#mac(signed);
  }

  verifies(ticket: string): boolean {
    const signed = ticket.slice(0, -43);
    return signed.endsWith(`.${this.#id}.`) && ticket.slice(-43) === this.#mac(signed);
  }

  #mac(signed: string): string {
    return createHmac('sha256', this.#key).update(signed).digest('base64url');
  }
}
