import { globSync, readFileSync } from 'node:fs';
import { isBuiltin, stripTypeScriptTypes } from 'node:module';
import { posix } from 'node:path';
import { expect, test } from 'vitest';

interface Rule {
  /** Parts whose files may be imported. */
  readonly may: readonly string[];
  /** Parts of which types may be imported and nothing that runs. */
  readonly mayTypes?: readonly string[];
  /** Runs in a browser: no Node module. */
  readonly browserSafe?: boolean;
}

const everything = (...except: string[]) => PARTS.filter(part => !except.includes(part));
const PARTS = [
  'base',
  'wire',
  'http',
  'drivers',
  'session',
  'policy',
  'websocket',
  'gateway',
  'config',
  'admin',
  'server',
  'cli',
  'client',
  'testing',
];

/** Imports go down only. The longest folder that a file lies in decides; its own part is always allowed. */
const RULES: Readonly<Record<string, Rule>> = {
  base: { may: [], browserSafe: true },
  wire: { may: ['base'], browserSafe: true },
  http: { may: ['base'] },
  drivers: { may: ['base'] },
  session: { may: ['base', 'http', 'drivers'] },
  policy: { may: ['base', 'http', 'drivers', 'session'] },
  websocket: { may: ['base', 'wire', 'http', 'drivers', 'session', 'policy'] },
  'websocket/protocol': { may: ['base', 'wire', 'http'] },
  gateway: { may: ['base', 'wire', 'http', 'session', 'policy', 'websocket'] },
  config: { may: ['base', 'http', 'drivers'], mayTypes: ['session', 'policy', 'websocket', 'gateway'] },
  admin: { may: ['base', 'http', 'config', 'session', 'policy', 'websocket', 'gateway'] },
  server: { may: everything('cli', 'client', 'testing') },
  cli: { may: ['base', 'config', 'server', 'admin', 'client'] },
  // An application like any other: it sees what users of the package see.
  'cli/demo': { may: ['index.ts'] },
  // A client of its own, which sees what is on the wire.
  'cli/doctor': { may: ['base', 'wire', 'http', 'websocket'] },
  client: { may: ['base', 'wire'], browserSafe: true },
  testing: { may: PARTS },
};

/** Of sessions. */
const CONTRACTS = ['session.ts', 'session-info.ts', 'store.ts', 'ledger.ts'];

/**
 * Within a part: which other folders and files of it the files of a folder may import, types included. The files beside
 * the folders hold what they have in common, and may import all of them.
 */
const ROOMS: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  gateway: {
    routing: [],
    connection: [],
    'backend-session': ['held-session.ts', 'session-failure.ts'],
    upstream: ['connection', 'backend-session', 'own-names.ts'],
    exchange: ['upstream', 'routing', 'backend-session', 'own-names.ts'],
    forward: ['exchange', 'upstream', 'connection', 'backend-session'],
    relay: ['exchange', 'upstream', 'connection', 'backend-session', 'held-session.ts'],
    targets: [
      'exchange',
      'admit.ts',
      'held-session.ts',
      'live-certificates.ts',
      'live-users.ts',
      'message-inspection.ts',
      'session-failure.ts',
    ],
  },
  session: {
    room: ['store.ts'],
    identity: [...CONTRACTS, 'room'],
    record: [...CONTRACTS, 'room', 'identity'],
    reports: CONTRACTS,
    life: [...CONTRACTS, 'room', 'identity', 'record'],
    process: [...CONTRACTS, 'options.ts', 'room', 'identity', 'record', 'reports', 'life', 'ledgers'],
    request: [...CONTRACTS, 'room', 'identity', 'record', 'life', 'process'],
    // A store brings the ledger of its database, which uses the store's connection.
    stores: [...CONTRACTS, 'room', 'record', 'ledgers'],
    ledgers: [...CONTRACTS, 'stores'],
  },
  server: {
    listen: ['data-folder.ts'],
    log: [],
    admin: ['listen', 'data-folder.ts', 'writable-folder.ts'],
    intakes: ['listen', 'assembly', 'log', 'banned.ts', 'drain.ts'],
    assembly: ['intakes', 'log', 'metrics', 'data-folder.ts', 'writable-folder.ts'],
    metrics: ['assembly', 'listen'],
    tracing: ['log'],
    workers: [
      ...['listen', 'admin', 'assembly', 'log', 'metrics'],
      ...[
        'administered-logs.ts',
        'data-folder.ts',
        'listeners.ts',
        'package-version.ts',
        'process-status.ts',
        'take-over.ts',
      ],
    ],
  },
};

/** Files that import each other, types included. */
const CIRCLES: readonly (readonly string[])[] = [['websocket/connection.ts', 'websocket/endpoint-options.ts']];

const STATEMENT = /^[ \t]*(?:import|export)\s+(?:[^;'"()=]*?\bfrom\s*)?['"]([^'"]+)['"]/gm;
const CALL = /\bimport\(\s*['"]([^'"]+)['"]/g;

function specifiers(source: string): Set<string> {
  return new Set([...source.matchAll(STATEMENT), ...source.matchAll(CALL)].map(match => match[1]!));
}

/** The rule's folder that a path below `src/` lies in; undefined for `src/index.ts` and for folders without a rule. */
function folderOf(path: string): string | undefined {
  return Object.keys(RULES)
    .filter(folder => path.startsWith(`${folder}/`))
    .sort((a, b) => b.length - a.length)[0];
}

/** One line per import that breaks a rule. `path` is relative to `src/`. */
function violations(path: string, source: string): string[] {
  const found: string[] = [];
  const report = (specifier: string, rule: string) => found.push(`src/${path} imports '${specifier}': ${rule}`);
  // Types are gone after stripping, so what is left is what runs.
  const atRunTime = specifiers(stripTypeScriptTypes(source));

  if (path === 'index.ts') {
    const rest = stripTypeScriptTypes(source)
      .replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, '')
      .replace(/\bexport\s*(?:\*(?:\s*as\s+\w+)?|\{[^}]*\})\s*from\s*['"][^'"]+['"];?/g, '')
      .trim();
    return rest ? [`src/index.ts does more than re-export: ${rest.slice(0, 80)}`] : [];
  }

  const folder = folderOf(path);
  if (folder === undefined) return [`src/${path} lies in no part: add its folder to the table or move the file`];
  const part = folder.split('/')[0]!;
  const { may, mayTypes = [], browserSafe } = RULES[folder]!;

  const room = path.split('/').length > 2 ? path.split('/')[1]! : undefined;
  const rooms = ROOMS[part];
  if (rooms && room !== undefined && !rooms[room]) return [`src/${path} lies in no room: add its folder to the table`];

  for (const specifier of specifiers(source)) {
    if (!specifier.startsWith('.')) {
      if (browserSafe && isBuiltin(specifier)) report(specifier, `${folder} runs in a browser and uses no Node module`);
      continue;
    }
    const target = posix.join(posix.dirname(path), specifier);
    const [targetPart, targetRoom] = target.split('/') as [string, string];
    if (targetPart === part && rooms && room !== undefined && targetRoom !== room && !rooms[room]!.includes(targetRoom))
      report(specifier, `${part}/${room} may import ${rooms[room]!.join(', ') || 'nothing'} of ${part}`);
    if (target.startsWith(`${folder}/`)) continue;
    // A folder with a rule of its own, inside a part, may be used by that part but not the other way round.
    if (folder === part && targetPart === part) continue;
    if (may.includes(targetPart)) continue;
    if (mayTypes.includes(targetPart)) {
      if (atRunTime.has(specifier)) report(specifier, `${folder} may import only types of ${targetPart}`);
      continue;
    }
    report(
      specifier,
      `${folder} may import ${[...may, ...mayTypes.map(name => `types of ${name}`)].join(', ') || 'nothing'}`,
    );
  }
  return found;
}

/** The sets of files of which each leads to every other of its set, sorted. */
function circles(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const reachable = new Map<string, Set<string>>();
  for (const file of imports.keys()) {
    const found = new Set<string>();
    const open = [file];
    for (let next = open.pop(); next !== undefined; next = open.pop())
      for (const target of imports.get(next) ?? []) {
        if (found.has(target)) continue;
        found.add(target);
        open.push(target);
      }
    reachable.set(file, found);
  }
  const sets = new Map<string, string[]>();
  for (const [file, found] of reachable) {
    if (!found.has(file)) continue;
    const set = [...found].filter(other => reachable.get(other)?.has(file)).sort();
    sets.set(set.join(), set);
  }
  return [...sets.values()].sort((a, b) => a[0]!.localeCompare(b[0]!));
}

const root = new URL('..', import.meta.url);
const files = globSync('src/**/*.ts', { cwd: root }).map(file => file.replaceAll('\\', '/').slice('src/'.length));

test('every import of the sources follows the table of parts', () => {
  expect(files.length).toBeGreaterThan(10);
  expect(files.flatMap(file => violations(file, readFileSync(new URL(`src/${file}`, root), 'utf8')))).toEqual([]);
});

test('the gateway has one HTTP client, and of those of Node types only', () => {
  const clients = files
    .filter(file => file.startsWith('gateway/'))
    .filter(file => {
      const source = readFileSync(new URL(`src/${file}`, root), 'utf8');
      return [...specifiers(stripTypeScriptTypes(source))].some(name => /^(?:node:)?(?:https?|http2)$/.test(name));
    });
  expect(clients).toEqual([]);
});

test('files import each other in no circle, types included', () => {
  const imports = new Map(
    files.map(file => {
      const source = readFileSync(new URL(`src/${file}`, root), 'utf8');
      const targets = [...specifiers(source)].filter(specifier => specifier.startsWith('.'));
      return [file, targets.map(specifier => posix.join(posix.dirname(file), specifier))];
    }),
  );
  expect(circles(imports)).toEqual(CIRCLES);
});

test.each([
  ['none', { a: ['b', 'c'], b: ['c'], c: [] }, []],
  ['two files', { a: ['b'], b: ['a'] }, [['a', 'b']]],
  ['a longer way', { a: ['b'], b: ['c'], c: ['d'], d: ['b'] }, [['b', 'c', 'd']]],
  [
    'two circles',
    { a: ['b'], b: ['a', 'c'], c: ['d'], d: ['c'] },
    [
      ['a', 'b'],
      ['c', 'd'],
    ],
  ],
])('%s: circles are found', (_, imports, expected) => {
  expect(circles(new Map(Object.entries<string[]>(imports)))).toEqual(expected);
});

test.each([
  ['base/a.ts', `import { readFile } from 'node:fs';`, 'uses no Node module'],
  ['wire/a.ts', `import fs from 'fs';`, 'uses no Node module'],
  ['client/a.ts', `import type { Socket } from 'node:net';`, 'uses no Node module'],
  ['base/a.ts', `import { CloseCode } from '../wire/close-codes.ts';`, 'base may import nothing'],
  ['http/a.ts', `import type { Session } from '../session/session.ts';`, 'http may import base'],
  ['session/stores/a.ts', `export { x } from '../../websocket/endpoint.ts';`, 'session may import'],
  [
    'websocket/protocol/a.ts',
    `import type { User } from '../handshake.ts';`,
    'websocket/protocol may import base, wire, http',
  ],
  ['config/a.ts', `import { x } from '../session/store.ts';`, 'config may import only types of session'],
  ['config/a.ts', `import { type X, y } from '../gateway/route.ts';`, 'config may import only types of gateway'],
  ['admin/a.ts', `import { x } from '../server/server.ts';`, 'admin may import'],
  ['gateway/a.ts', `const x = await import('../server/server.ts');`, 'gateway may import'],
  ['gateway/a.ts', `type X = import('../server/server.ts').X;`, 'gateway may import'],
  ['server/a.ts', `import {\n  a,\n  b,\n} from '../testing/fake-clock.ts';`, 'server may import'],
  ['server/a.ts', `import '../../scripts/build.js';`, 'server may import'],
  ['utils/a.ts', '', 'lies in no part'],
  ['gateway/utils/a.ts', '', 'lies in no room'],
  [
    'gateway/routing/a.ts',
    `import type { Route } from '../route.ts';`,
    'gateway/routing may import nothing of gateway',
  ],
  ['gateway/relay/a.ts', `import { x } from '../forward/forward.ts';`, 'gateway/relay may import exchange'],
  ['index.ts', `export * from './a.ts';\nconsole.log(1);`, 'does more than re-export'],
  ['index.ts', `import { a } from './a.ts';\nexport { a };`, 'does more than re-export'],
])('%s with %j is reported', (path, source, rule) => {
  expect(violations(path, source)).toEqual([expect.stringContaining(rule)]);
});

test.each([
  ['base/a.ts', `import { x } from './errors.ts';`],
  ['wire/a.ts', `import { x } from '../base/errors.ts';`],
  ['websocket/a.ts', `import { x } from './protocol/opcodes.ts';\nimport net from 'node:net';`],
  ['websocket/protocol/a.ts', `import { x } from '../../wire/close-codes.ts';`],
  [
    'config/a.ts',
    `import type { Route } from '../gateway/route.ts';\ntype X = import('../session/store.ts').SessionStore;`,
  ],
  ['server/a.ts', `import { x } from '../gateway/admit.ts';`],
  ['gateway/relay/a.ts', `import { x } from '../exchange/exchange.ts';\nimport { y } from './b.ts';`],
  ['gateway/a.ts', `import { x } from './targets/fetch.ts';`],
  ['testing/a.ts', `import { x } from '../server/server.ts';`],
  [
    'index.ts',
    `/** All of it. */\nexport type { A } from './a.ts';\nexport { b } from './b.ts'; // b\nexport * from './c.ts';`,
  ],
])('%s with %j is allowed', (path, source) => {
  expect(violations(path, source)).toEqual([]);
});
