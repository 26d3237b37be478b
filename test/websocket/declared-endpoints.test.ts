import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { declaredEndpoints } from '../../src/server/assembly/declared-endpoints.ts';
import { testClient } from '../../src/testing/test-client.ts';
import { serve } from './serve.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;

// The modules find this package as those of an application do.
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'holdfast-declared-'));
  await mkdir(join(folder, 'node_modules'));
  await symlink(repository, join(folder, 'node_modules', 'holdfast'));
});
afterEach(() => rm(folder, { recursive: true }));

async function write(files: Record<string, string>): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
}

const saying = (text: string, path: string, type = '') =>
  `{ path: ${JSON.stringify(path)}, onOpen(connection${type}) { connection.send(${JSON.stringify(text)}); } }`;
const glob = (pattern: string) => join(folder, pattern);

async function heardAt(url: string): Promise<unknown> {
  await using client = await testClient(url);
  return client.receive();
}

describe('declared is deployed', () => {
  test('serves every endpoint that the modules of a folder export, in TypeScript and JavaScript, and nothing registers them', async () => {
    await write({
      'endpoints/chat.ts': `
        import { type Connection, defineEndpoint } from 'holdfast';
        export const chat = defineEndpoint(${saying('chat', '/chat', ': Connection')});
        export const lobby = defineEndpoint(${saying('lobby', '/lobby')});
        export const limit: number = 5;`,
      'endpoints/deep/er/news.js': `
        import { defineEndpoint } from 'holdfast';
        export default defineEndpoint(${saying('news', '/news')});`,
      'endpoints/readme.md': 'not a module',
      'elsewhere/secret.js': `
        import { defineEndpoint } from 'holdfast';
        export default defineEndpoint(${saying('secret', '/secret')});`,
    });
    await using served = await serve([], { endpoints: [glob('endpoints/**/*.ts'), glob('endpoints/**/*.js')] });
    expect(await heardAt(`${served.url}/chat`)).toBe('chat');
    expect(await heardAt(`${served.url}/lobby`)).toBe('lobby');
    expect(await heardAt(`${served.url}/news`)).toBe('news');
    await expect(testClient(`${served.url}/secret`)).rejects.toMatchObject({ status: 404 });
  });

  test('takes an endpoint once that several modules export', async () => {
    await write({
      'a/chat.js': `
        import { defineEndpoint } from 'holdfast';
        export const chat = defineEndpoint(${saying('chat', '/chat')});
        export default chat;`,
      'a/index.js': `export * from './chat.js';`,
    });
    await using served = await serve([], { endpoints: [glob('a/*.js')] });
    expect(await heardAt(`${served.url}/chat`)).toBe('chat');
  });

  test('the endpoints of a module share what it declares', async () => {
    await write({
      'a/counters.js': `
        import { defineEndpoint } from 'holdfast';
        const context = { opened: 0 };
        const count = connection => void connection.send(String(++context.opened));
        export const first = defineEndpoint({ path: '/first', onOpen: count });
        export const second = defineEndpoint({ path: '/second', onOpen: count });`,
    });
    await using served = await serve([], { endpoints: [glob('a/*.js')] });
    expect([await heardAt(`${served.url}/first`), await heardAt(`${served.url}/second`)]).toEqual(['1', '2']);
  });

  test('runs init and destroy of what it found', async () => {
    await write({
      'a/chat.js': `
        import { defineEndpoint } from 'holdfast';
        globalThis.declaredCalls = [];
        export const chat = defineEndpoint({
          path: '/chat',
          init: () => void declaredCalls.push('init'),
          destroy: () => void declaredCalls.push('destroy'),
        });`,
    });
    const served = await serve([], { endpoints: [glob('a/*.js')] });
    await served.server.stop();
    expect((globalThis as Record<string, unknown>).declaredCalls).toEqual(['init', 'destroy']);
  });

  test('names the route after the file as the folder sees it, wherever that folder lies', async () => {
    await write({
      'a/chat.js': `import { defineEndpoint } from 'holdfast';\nexport const chat = defineEndpoint({ path: '/chat' });`,
    });
    for (const pattern of ['a/*.js', glob('a/*.js')])
      expect(await declaredEndpoints([pattern], folder)).toMatchObject([{ source: 'a/chat.js#chat' }]);
  });

  test('is a start-up error when two modules declare the same pattern, and names both', async () => {
    await write({
      'a/one.js': `import { defineEndpoint } from 'holdfast';\nexport const first = defineEndpoint({ path: '/chat' });`,
      'a/two.js': `import { defineEndpoint } from 'holdfast';\nexport const second = defineEndpoint({ path: '/chat' });`,
    });
    await expect(serve([], { endpoints: [glob('a/*.js')] })).rejects.toMatchObject({
      code: 'ERR_ROUTE_DUPLICATE',
      message: expect.stringMatching(/one\.js#first.*two\.js#second/),
    });
  });

  test('is a start-up error when a module exports a copy of an endpoint, and names the export', async () => {
    await write({
      'a/chat.js': `
        import { defineEndpoint } from 'holdfast';
        export const copied = { ...defineEndpoint({ path: '/chat' }) };`,
    });
    const starting = serve([], { endpoints: [glob('a/*.js')] });
    await expect(starting).rejects.toSatisfy(error => error instanceof TypeError);
    await expect(starting).rejects.toThrow(/chat\.js#copied.*defineEndpoint/);
  });

  test('is a start-up error when the globs match nothing, or a module cannot be loaded', async () => {
    await expect(serve([], { endpoints: [glob('nothing/*.ts')] })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringContaining('nothing/*.ts'),
    });
    await write({ 'a/broken.js': 'throw new Error("no such luck")' });
    await expect(serve([], { endpoints: [glob('a/*.js')] })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(/broken\.js.*no such luck/),
    });
  });
});
