import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import BUILT_IN from '../../scripts/built-in.json' with { type: 'json' };
import { writeCertificate } from '../self-signed-certificate.ts';
import { Holdfast } from './run-holdfast.ts';

let cwd: string;
let program: Holdfast | undefined;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), 'holdfast-lean-'));
});
afterEach(async () => {
  program?.kill('SIGKILL');
  await program?.ended;
  rmSync(cwd, { recursive: true });
});

const root = fileURLToPath(new URL('../..', import.meta.url));
const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
/** Those that users have because of us. */
const packages = [...Object.keys({ ...dependencies, ...peerDependencies }), ...BUILT_IN];

/** Serves the file in `cwd`, ends it, and tells what it had loaded. */
async function loadedBy(whileItRuns: (pid: number) => void = () => {}) {
  const list = join(cwd, 'modules.json');
  const recorder = new URL('./module-recorder.mjs', import.meta.url).href;
  program = new Holdfast(['serve'], { cwd, env: { NODE_OPTIONS: `--import ${recorder}`, HOLDFAST_MODULES: list } });
  await program.printed(/"event":"started"/);
  whileItRuns(program.process.pid!);
  program.kill('SIGTERM');
  expect(await program.ended).toBe(0);
  const { urls, builtins }: Record<'urls' | 'builtins', string[]> = JSON.parse(readFileSync(list, 'utf8'));
  return {
    packages: packages.filter(name => urls.some(url => url.includes(`/node_modules/${name}/`))).sort(),
    /** Paths below `src/`. */
    sources: urls.flatMap(url => /\/src\/([^?]+)$/.exec(url)?.[1] ?? []),
    builtins: builtins.flatMap(name => /^NativeModule (.+)$/.exec(name)?.[1] ?? []),
  };
}

const threadNames = (pid: number) =>
  readdirSync(`/proc/${pid}/task`).map(id => readFileSync(`/proc/${pid}/task/${id}/comm`, 'utf8').trim());

describe('holdfast serve loads what its configuration uses', () => {
  test('and of the rest neither packages nor parts of Node, and has no thread that waits for passwords', async () => {
    mkdirSync(join(cwd, 'tls'));
    writeCertificate(join(cwd, 'tls'), { name: 'example.com' });
    writeFileSync(join(cwd, '.htpasswd'), 'alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n');
    copyFileSync(join(root, 'bench/start/holdfast.yaml'), join(cwd, 'holdfast.yaml'));
    let threads: string[] = [];
    const loaded = await loadedBy(pid => {
      threads = process.platform === 'linux' ? threadNames(pid) : [];
    });
    // Of zod: what describes a configuration. Of lmdb and yaml: what it names and is written in. And the log.
    expect(loaded.packages).toEqual(['@eslint-community/regexpp', 'lmdb', 'pino', 'yaml', 'zod']);
    expect(loaded.builtins).not.toContain('internal/deps/undici/undici');
    expect(loaded.builtins).not.toContain('http2');
    const unused =
      /^(?:admin\/(?:api|openapi|routes)|server\/listen\/http2\/|policy\/auth\/(?:jwt|oidc|tokens\/key-set)\.ts|(?:session|drivers)\/.*(?:redis|postgres)|testing\/|cli\/(?:demo|doctor)\/)/;
    expect(loaded.sources.filter(path => unused.test(path))).toEqual([]);
    expect(threads.filter(name => name.startsWith('holdfast-passw'))).toEqual([]);
  });

  test('in TypeScript, no parser of YAML', async () => {
    const index = new URL('../../src/index.ts', import.meta.url).href;
    writeFileSync(
      join(cwd, 'holdfast.config.ts'),
      `import { defineConfig } from '${index}';
      export default defineConfig({
        listen: [{ port: 0, host: '127.0.0.1', hosts: ['localhost'] }],
        session: { store: 'memory:' },
        routes: [{ path: '/a', redirect: '/b' }],
        admin: false,
      });`,
    );
    const loaded = await loadedBy();
    expect(loaded.packages).toEqual(['@eslint-community/regexpp', 'pino', 'zod']);
    expect(loaded.builtins).not.toContain('internal/deps/undici/undici');
  });
});
