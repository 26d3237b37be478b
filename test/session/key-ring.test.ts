import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KeyRing, loadOrCreateKey } from '../../src/session/identity/key-ring.ts';

const OLD = 'o'.repeat(32);
const NEW = 'n'.repeat(32);

describe('key ring', () => {
  test('signs with the first key and verifies with every one', () => {
    const before = new KeyRing([OLD]);
    const during = new KeyRing([NEW, OLD]);
    const after = new KeyRing([NEW]);
    const old = before.sign('text');
    expect(during.verify(before.signingKeyId, 'text', old)).toBe(true);
    expect(after.verify(before.signingKeyId, 'text', old)).toBe(false);
    expect(after.verify(during.signingKeyId, 'text', during.sign('text'))).toBe(true);
  });

  test('refuses another text, another mac and a mac of another length', () => {
    const keys = new KeyRing([OLD]);
    const mac = keys.sign('text');
    expect(keys.verify(keys.signingKeyId, 'text', mac)).toBe(true);
    expect(keys.verify(keys.signingKeyId, 'texT', mac)).toBe(false);
    expect(keys.verify(keys.signingKeyId, 'text', `${mac.slice(0, -1)}_`)).toBe(false);
    expect(keys.verify(keys.signingKeyId, 'text', mac.slice(1))).toBe(false);
  });

  test('refuses to be empty and keys that are too short, without naming them', () => {
    expect(() => new KeyRing([])).toThrow(TypeError);
    expect(() => new KeyRing(['topsecret'])).toThrow(
      expect.not.objectContaining({ message: expect.stringContaining('topsecret') }),
    );
  });
});

describe('loadOrCreateKey', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'holdfast-keys-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('makes a key of 256 bits that only its owner can read, and finds it again', async () => {
    const path = join(folder, 'deep', 'er');
    const key = await loadOrCreateKey(path);
    expect(key.length).toBe(32);
    expect((await stat(join(path, 'session.key'))).mode & 0o777).toBe(0o600);
    expect(await loadOrCreateKey(path)).toEqual(key);
  });

  test('gives everybody who starts at once the same key and leaves no draft behind', async () => {
    const path = join(folder, 'race');
    const keys = await Promise.all(Array.from({ length: 20 }, () => loadOrCreateKey(path)));
    expect(new Set(keys.map(key => Buffer.from(key).toString('hex'))).size).toBe(1);
    expect(await readdir(path)).toEqual(['session.key']);
  });

  test('makes none on a disk that is too full, leaves nothing there, and finds one all the same', async () => {
    const path = join(folder, 'full');
    const disk = { reserveBytes: 1_000, freeBytes: () => 999 };
    await expect(loadOrCreateKey(path, disk)).rejects.toMatchObject({ code: 'ERR_SESSION_NO_ROOM' });
    await expect(readdir(path)).rejects.toThrow('ENOENT');
    const key = await loadOrCreateKey(path, { ...disk, freeBytes: () => 1_000 });
    expect(await loadOrCreateKey(path, disk)).toEqual(key);
  });

  test('refuses a damaged key instead of replacing it', async () => {
    const path = join(folder, 'damaged');
    await loadOrCreateKey(path);
    await writeFile(join(path, 'session.key'), 'oops');
    await expect(loadOrCreateKey(path)).rejects.toThrow(TypeError);
    expect(await readFile(join(path, 'session.key'), 'utf8')).toBe('oops');
  });
});
