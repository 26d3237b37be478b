import { type ExecFileOptions, execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { documents } from '../../scripts/docs.ts';

/** Runs a program to its end. Its whole output is in the error when it fails. */
async function run(program: string, args: string[], options: ExecFileOptions): Promise<string> {
  try {
    return (await promisify(execFile)(program, args, { ...options, encoding: 'utf8' })).stdout;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(' ')} failed:\n${stdout}${stderr}`, { cause: error });
  }
}

const root = fileURLToPath(new URL('../..', import.meta.url));
let project: string;

// The package as a user gets it: built, packed, and installed into an empty project.
beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'holdfast-dist-'));
  await run('npm', ['run', 'build'], { cwd: root });
  const packed = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project], { cwd: root });
  const [{ filename }]: [{ filename: string }] = JSON.parse(packed);
  const { devDependencies } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  await writeFile(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  // `jose` is what the guides verify assertions with.
  const others = ['@types/node', 'jose'].map(name => `${name}@${devDependencies[name]}`);
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', `./${filename}`, ...others], {
    cwd: project,
  });
});

afterAll(async () => {
  await rm(project, { recursive: true, force: true });
});

test('an echo server runs on the built package', async () => {
  await writeFile(
    join(project, 'main.js'),
    `
      import { createServer, defineEndpoint } from 'holdfast';
      const echo = defineEndpoint({ path: '/echo', onMessage: (connection, data) => void connection.send(data) });
      const server = createServer({ listen: [{ port: 0, host: '127.0.0.1' }], routes: [{ endpoint: echo }] });
      await server.start();
      const socket = new WebSocket(new URL('/echo', server.urls[0]).href.replace('http', 'ws'));
      socket.onopen = () => socket.send('hello');
      socket.onmessage = async event => {
        socket.close();
        await server.stop();
        console.log('echoed ' + event.data);
      };
    `,
  );
  const stdout = await run(process.execPath, ['main.js'], { cwd: project, timeout: 20_000 });
  expect(stdout).toContain('echoed hello');
});

test('every subpath of the built package can be imported, and the program runs', async () => {
  const { exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const subpaths = Object.keys(exports).filter(subpath => !subpath.endsWith('.json'));
  const names = subpaths.map(subpath => subpath.replace('.', 'holdfast'));
  await writeFile(
    join(project, 'imports.js'),
    `for (const name of ${JSON.stringify(names)}) console.log(name, Object.keys(await import(name)).length > 0);`,
  );
  const stdout = await run(process.execPath, ['imports.js'], { cwd: project });
  expect(stdout).toBe(names.map(name => `${name} true\n`).join(''));

  const help = await run(join(project, 'node_modules/.bin/holdfast'), ['--help'], { cwd: project });
  expect(help).toMatch(/^Usage: holdfast .*^ {2}serve /ms);
});

/** Compiles one module in a strict project that has the package installed. */
async function compile(source: string): Promise<void> {
  await writeFile(join(project, 'consumer.ts'), source);
  const compilerOptions = {
    module: 'nodenext',
    target: 'esnext',
    lib: ['esnext'],
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    verbatimModuleSyntax: true,
    noEmit: true,
  };
  await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['consumer.ts'] }));
  await run(join(root, 'node_modules/.bin/tsc'), ['-p', project], {});
}

test('a strict TypeScript project compiles against the built declarations', async () => {
  await compile(`
    import { createServer, defineEndpoint, type Connection } from 'holdfast';

    declare module 'holdfast' {
      interface SessionData { visits: number }
    }

    const chat = defineEndpoint<{ name: string }>({
      path: '/chat/:room',
      accept: handshake => ({ data: { name: handshake.query.get('name') ?? 'somebody' } }),
      onMessage(connection: Connection<{ name: string }>, data) {
        const visits: number | undefined = connection.session?.get('visits');
        // @ts-expect-error: the attribute is a number
        connection.session?.set('visits', 'many');
        chat.broadcast(\`\${connection.data.name} \${visits}: \${data}\`);
      },
    });
    // @ts-expect-error: a pattern is a string
    defineEndpoint({ path: 1 });

    const server = createServer({ listen: [{ port: 0 }], routes: [{ endpoint: chat }] });
    const started: Promise<unknown> = server.start();
    void started;
  `);
});

// Not those marked as fragments, nor those that begin with a file name: they are files of a program that another test
// runs.
const programs = documents().flatMap(({ path, text }) =>
  [...text.matchAll(/^```ts\n(?!\/\/ [^/\s]+\.ts\n)([\s\S]*?)^```$/gm)].map(
    ([, source], index) => [path, index + 1, source!] as const,
  ),
);

test.each(programs)('in %s, program %i compiles', async (_path, _index, source) => {
  await compile(source);
});
