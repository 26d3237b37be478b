// Emits dist/: declarations file by file with tsc, and the programs as few files: loading a file costs Node more than
// running what is in it (docs/decisions/0079-start.md). Names stay, but where two clash, and each file has a source map, so
// that a stack trace in production names the source file and line. Packages that every start needs are built in, with their licences
// beside them.
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';
import BUILT_IN from './built-in.json' with { type: 'json' };

const root = fileURLToPath(new URL('..', import.meta.url));
const src = join(root, 'src');
/** One folder, as deep as the parts of src/: what a module looks for by its place lies beside it, or two folders up. */
const lib = join(root, 'dist/lib');

/** What is imported from outside, or started as a thread or process of its own. */
const ENTRIES = {
  index: 'index.ts',
  session: 'session/index.ts',
  lmdb: 'session/stores/lmdb.ts',
  redis: 'session/stores/redis.ts',
  postgres: 'session/stores/postgres.ts',
  websocket: 'websocket/index.ts',
  testing: 'testing/index.ts',
  cli: 'cli/main.ts',
  'password-thread': 'policy/auth/passwords/password-thread.ts',
  'callback-thread': 'websocket/threads/callback-thread.ts',
  backend: 'cli/demo/backend.ts',
};

/** Each becomes one file, with what it needs and those before it have not. What is imported as it is used stays apart. */
const FILES = [
  ['sessions', ['session/index.ts']],
  ['websockets', ['websocket/index.ts', 'wire/close-codes.ts']],
  ['server', ['index.ts', 'server/admin/admin.ts', 'server/administered.ts', 'cli/examine.ts']],
];

/** What users need not install, with the packages that it needs itself. */
const builtIn = withDependencies(BUILT_IN);

rmSync(join(root, 'dist'), { recursive: true, force: true });
const { status } = spawnSync('tsc', ['-p', 'tsconfig.build.json'], { cwd: root, stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);

const inSrc = path => join(src, path);
const bundle = await rolldown({
  cwd: root,
  platform: 'node',
  input: Object.fromEntries(Object.entries(ENTRIES).map(([name, path]) => [name, inSrc(path)])),
  external: id => !/^[./]/.test(id) && !builtIn.has(packageOf(id)),
  checks: { ineffectiveDynamicImport: false },
});
const { output } = await bundle.write({
  dir: lib,
  format: 'esm',
  sourcemap: true,
  comments: false,
  entryFileNames: '[name].js',
  chunkFileNames: '[name].js',
  codeSplitting: {
    groups: FILES.map(([name, paths], index) => ({
      name,
      test: id => paths.some(path => id === inSrc(path)),
      priority: FILES.length - index,
    })),
  },
});
for (const { fileName, code } of output) {
  if (code === undefined) continue;
  // An `import` of one of Node's modules reads all its exports, some of which load more of Node. On one line as before, for
  // the source maps.
  const asked = code.replace(/^import (\{.*\}) from ("node:.*");$/gm, (_, names, module) => {
    return `const ${names.replaceAll(' as ', ': ')} = process.getBuiltinModule(${module});`;
  });
  // A text of Latin letters is kept in half of the memory.
  const ascii = asked.replace(/[^\0-\x7f]/g, unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  if (ascii !== code) writeFileSync(join(lib, fileName), ascii);
}
// What no module imports: the page of the demo.
cpSync(join(src, 'cli/demo/public'), join(lib, 'public'), { recursive: true });
writeFileSync(join(root, 'dist/third-party.md'), thirdParty());

function packageOf(specifier) {
  return /^(?:@[^/]+\/)?[^/]+/.exec(specifier)[0];
}

function withDependencies(names) {
  const found = new Set();
  const left = [...names];
  for (let name = left.pop(); name !== undefined; name = left.pop()) {
    if (found.has(name)) continue;
    found.add(name);
    left.push(...Object.keys(manifestOf(name).dependencies ?? {}));
  }
  return found;
}

function manifestOf(name) {
  return JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8'));
}

/** Names, versions and licences of what is built in: the licences are to be passed on with it. */
function thirdParty() {
  const parts = [...builtIn].sort().map(name => {
    const { version, license } = manifestOf(name);
    const folder = join(root, 'node_modules', name);
    const file = readdirSync(folder).find(one => /^licen[cs]e/i.test(one));
    if (file === undefined) throw new Error(`${name} has no licence file`);
    return `## ${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8').trim()}\n`;
  });
  return `# Packages that are built in\n\n${parts.join('\n')}`;
}
