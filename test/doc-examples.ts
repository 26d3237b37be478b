import { globSync, readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { stripTypeScriptTypes } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { format } from 'node:util';
import { type Connection, createServer, defineEndpoint, type Server } from '../src/index.ts';
import {
  firstVersion,
  MemoryLedger,
  MemoryStore,
  type Session,
  SessionManager,
  type SessionRecord,
} from '../src/session/index.ts';
import { testClient } from '../src/testing/index.ts';
import { startPostgres } from './services/postgres-server.ts';
import { startRedis } from './services/redis-server.ts';

const root = new URL('..', import.meta.url);

/** An `@example` of a doc comment: always the last part of it. */
export interface DocExample {
  /** `Connection.send`, or the name of a function or class. */
  readonly name: string;
  readonly file: string;
  readonly code: string;
}

const COMMENT = /^( *)\/\*\*\n((?:\1 \*.*\n)*?)\1 \* @example\n((?:\1 \*.*\n)*?)\1 \*\/\n(?: *\/\/.*\n)*(.*)$/gm;
const DECLARED = /^(?:export )?(?:(?:static|async|readonly|get|function\*?|class|interface|const) )*\*?(\w+)/;
const TYPE = /^export (?:class|interface) (\w+)/gm;

/** The examples of a source file. */
export function examplesIn(file: string, source: string): DocExample[] {
  const types = [...source.matchAll(TYPE)];
  return [...source.matchAll(COMMENT)].map(match => {
    const [, indent = '', , example = '', declaration = ''] = match;
    const name = DECLARED.exec(declaration.trim())![1]!;
    const owner = indent === '' ? undefined : types.findLast(({ index }) => index < match.index)![1];
    const code = example.replace(/^ *\* ?/gm, '').trimEnd();
    return { name: owner === undefined ? name : `${owner}.${name}`, file, code };
  });
}

export function allExamples(): DocExample[] {
  return globSync('src/**/*.ts', { cwd: root })
    .sort()
    .flatMap(file => examplesIn(file, readFileSync(new URL(file, root), 'utf8')));
}

/** Names of the functions that a type of the public API has, as its source declares them. */
export function functionsOf(file: string, type: string): string[] {
  const source = readFileSync(new URL(file, root), 'utf8');
  const body = new RegExp(`^export (?:class|interface) ${type}\\b[^]*?^}`, 'm').exec(source)![0];
  const names = body.matchAll(/^ {2}(?:async )?\*?(\w+)\??(?:<[^(]*>)?\(/gm);
  return [...names].map(([, name]) => name!).filter(name => name !== 'constructor');
}

/** What the examples of a type have around them, and what an example without imports uses beside that. */
export interface Surroundings extends AsyncDisposable {
  readonly values: Readonly<Record<string, unknown>>;
}

/** The types of what examples have around them: the declarations before a program that has one of them. */
export const DECLARATIONS = `
import type { Connection, Server } from 'holdfast';
import type { Ledger, Session, SessionManager, SessionRecord, SessionStore } from 'holdfast/session';
declare global {
  const connection: Connection;
  const server: Server;
  const session: Session;
  const sessions: SessionManager;
  const request: object;
  const sid: string;
  const store: SessionStore;
  const record: SessionRecord;
  const ledger: Ledger;
  const folder: string;
  const redis: string;
  const postgres: string;
}
`;

async function aServer(): Promise<Surroundings & { readonly values: { readonly server: Server } }> {
  let onOpen: ((connection: Connection) => void) | undefined;
  const opened = new Promise<Connection>(resolve => {
    onOpen = resolve;
  });
  const chat = defineEndpoint({
    path: '/chat',
    onOpen: connection => onOpen!(connection),
    onMessage: (connection, data) => void connection.send(data),
  });
  const server = createServer({
    listen: [{ host: '127.0.0.1', port: 0 }],
    session: { store: 'memory:' },
    routes: [{ endpoint: chat }],
    log: { level: 'error', access: 'off' },
  });
  await server.start();
  const client = await testClient(`${server.urls[0]}/chat`);
  const connection = await opened;
  return {
    values: { server, connection },
    async [Symbol.asyncDispose]() {
      client.terminate();
      await server.stop({ drain: 0 });
    },
  };
}

async function aSession(): Promise<Surroundings> {
  const sessions = new SessionManager({ store: new MemoryStore(), keys: [new Uint8Array(32).fill(7)] });
  const binding = sessions.bind({ cookieHeader: undefined, isSecure: true, isDocumentNavigation: false });
  const request = {};
  sessions.bindTo(request, binding);
  const session: Session = await binding.signIn({ name: 'alice', roles: [] });
  await binding.commit();
  return {
    values: { sessions, session, request, sid: session.id },
    async [Symbol.asyncDispose]() {
      binding.release();
      await sessions.close();
    },
  };
}

async function aStore(): Promise<Surroundings> {
  const store = new MemoryStore();
  const now = Date.now();
  const owner = { name: 'alice', roles: [] };
  const header = { secretHash: 'a'.repeat(43), createdAt: now, idleTimeoutMs: 1_800_000, owner };
  const record: SessionRecord = { header, version: firstVersion(), lastAccessedAt: now, attributes: new Map() };
  const values = { store, record, sid: 'A'.repeat(22) };
  return { values, [Symbol.asyncDispose]: () => store.close() };
}

async function aLedger(): Promise<Surroundings> {
  const ledger = new MemoryLedger();
  return { values: { ledger }, [Symbol.asyncDispose]: () => ledger.close() };
}

async function aFolder(): Promise<Surroundings> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-example-'));
  return { values: { folder }, [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
}

/** One server for all examples that need it, started for the first. */
const services: { redis?: ReturnType<typeof startRedis>; postgres?: ReturnType<typeof startPostgres> } = {};

async function aRedis(): Promise<Surroundings> {
  const { url } = await (services.redis ??= startRedis());
  return { values: { redis: url }, async [Symbol.asyncDispose]() {} };
}

async function aPostgres(): Promise<Surroundings> {
  const { url } = await (services.postgres ??= startPostgres());
  return { values: { postgres: url }, async [Symbol.asyncDispose]() {} };
}

export async function stopServices(): Promise<void> {
  await (await services.redis)?.stop();
  await (await services.postgres)?.stop();
}

/** By the names of the examples that need something around them. */
const SURROUNDINGS: readonly (readonly [RegExp, () => Promise<Surroundings>])[] = [
  [/^(?:Connection|Server)\.|^testClient$/, aServer],
  [/^Session(?:Manager)?\.|^(?:defineType|SessionTypeUnknownError|UnauthorizedSessionRequestError)$/, aSession],
  [/^SessionStore\./, aStore],
  [/^Ledger\./, aLedger],
  [/^Lmdb|^loadOrCreateKey$/, aFolder],
  [/redis/i, aRedis],
  [/^Postgres|^openPostgres$/, aPostgres],
];

/** Runs an example as it stands. @returns what it has printed, line by line, and what its comments say that it does. */
export async function runExample(example: DocExample): Promise<{ printed: string[]; announced: string[] }> {
  const printed: string[] = [];
  const announced = example.code
    .split('\n')
    .filter(line => line.includes('console.log('))
    .flatMap(line => /\/\/ (.*)$/.exec(line)?.[1] ?? []);
  const surroundings = SURROUNDINGS.find(([names]) => names.test(example.name))?.[1];
  await using around = await surroundings?.();
  const names = Object.keys(around?.values ?? {});
  const log = { log: (...values: unknown[]) => void printed.push(format(...values)) };
  // The suites of contracts run elsewhere: here it is enough that they can be declared.
  const nodeTest = { describe: (_name: string, body: () => void) => body(), test: () => {} };
  const load = (name: string) => (name === 'node:test' ? nodeTest : import(name));
  const program = stripTypeScriptTypes(example.code)
    .replace(/^import (\w+) from ('.*');$/gm, 'const $1 = (await $load($2)).default;')
    .replace(
      /^import (\{.*\}) from ('.*');$/gm,
      (_, names, from) => `const ${names.replaceAll(' as ', ': ')} = await $load(${from});`,
    )
    .replace(/^export default /gm, 'void ');
  const AsyncFunction = (async () => {}).constructor as new (
    ...args: string[]
  ) => (...args: unknown[]) => Promise<void>;
  await new AsyncFunction('console', '$load', ...names, `{${program}\n}`)(
    log,
    load,
    ...Object.values(around?.values ?? {}),
  );
  return { printed, announced };
}
