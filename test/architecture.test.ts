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
  policy: { may: ['base', 'http', 'session'] },
  websocket: { may: ['base', 'wire', 'http', 'drivers', 'session', 'policy'] },
  'websocket/protocol': { may: ['base', 'wire', 'http'] },
  gateway: { may: ['base', 'wire', 'http', 'session', 'policy', 'websocket'] },
  config: { may: ['base', 'http'], mayTypes: ['session', 'policy', 'websocket', 'gateway'] },
  admin: { may: ['base', 'http', 'config', 'session', 'policy', 'websocket', 'gateway'] },
  server: { may: everything('cli', 'client', 'testing') },
  cli: { may: ['base', 'config', 'server', 'admin', 'client'] },
  // An application like any other: it sees what users of the package see.
  'cli/demo': { may: ['index.ts'] },
  client: { may: ['base', 'wire'], browserSafe: true },
  testing: { may: PARTS },
};

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

  for (const specifier of specifiers(source)) {
    if (!specifier.startsWith('.')) {
      if (browserSafe && isBuiltin(specifier)) report(specifier, `${folder} runs in a browser and uses no Node module`);
      continue;
    }
    const target = posix.join(posix.dirname(path), specifier);
    const targetPart = target.split('/')[0]!;
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

const root = new URL('..', import.meta.url);
const files = globSync('src/**/*.ts', { cwd: root }).map(file => file.replaceAll('\\', '/').slice('src/'.length));

test('every import of the sources follows the table of parts', () => {
  expect(files.length).toBeGreaterThan(10);
  expect(files.flatMap(file => violations(file, readFileSync(new URL(`src/${file}`, root), 'utf8')))).toEqual([]);
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
  ['testing/a.ts', `import { x } from '../server/server.ts';`],
  [
    'index.ts',
    `/** All of it. */\nexport type { A } from './a.ts';\nexport { b } from './b.ts'; // b\nexport * from './c.ts';`,
  ],
])('%s with %j is allowed', (path, source) => {
  expect(violations(path, source)).toEqual([]);
});
