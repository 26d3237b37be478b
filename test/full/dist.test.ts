import { type ExecFileOptions, execFile, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import BUILT_IN from '../../scripts/built-in.json' with { type: 'json' };
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
/** The package, and what is in it. */
let tarball: string;
let files: ReadonlySet<string>;

// The package as a user gets it: built, packed, and installed into an empty project.
beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'holdfast-dist-'));
  await run('npm', ['run', 'build'], { cwd: root });
  const packed = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project], { cwd: root });
  const [{ filename, files: entries }]: [{ filename: string; files: { path: string }[] }] = JSON.parse(packed);
  tarball = join(project, filename);
  files = new Set(entries.map(({ path }) => path));
  const { dependencies, devDependencies } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const versions = { ...dependencies, ...devDependencies };
  await writeFile(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  // What the programs of the guides use beside it; `jose` verifies assertions.
  const frameworks = ['express', '@types/express', 'fastify', 'hono', '@hono/node-server', 'socket.io'];
  const others = ['@types/node', 'jose', ...frameworks].map(name => `${name}@${versions[name]}`);
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

test('handlers run in threads of the built package, in JavaScript and in TypeScript, and check finds those that would not', async () => {
  const folder = join(project, 'threads');
  await mkdir(folder);
  const write = (name: string, text: string) => writeFile(join(folder, name), text);
  await write('package.json', JSON.stringify({ private: true, type: 'module' }));
  await write(
    'plain.js',
    `import { CloseCode } from 'holdfast';
    export const onMessage = (connection, data) => connection.close(CloseCode.normal, 'plain ' + data);`,
  );
  await write(
    'typed.ts',
    `import type { ThreadConnection } from 'holdfast';
    export const onMessage = (connection: ThreadConnection, data: string | Uint8Array) => connection.close(1000, 'typed ' + data);`,
  );
  await write(
    'holdfast.config.js',
    `import { defineConfig, defineEndpoint } from 'holdfast';
    const endpoint = file =>
      defineEndpoint({ path: '/' + file, dispatch: { threads: 1 }, handlers: new URL(file, import.meta.url) });
    export default defineConfig({
      listen: [{ port: 0, host: '127.0.0.1', hosts: ['localhost'] }],
      session: false,
      routes: ['plain.js', 'typed.ts', ...(process.env.MORE ? [process.env.MORE] : [])].map(file => ({ endpoint: endpoint(file) })),
    });`,
  );
  await write(
    'main.js',
    `import { createServer } from 'holdfast';
    import config from './holdfast.config.js';
    const server = createServer(config);
    await server.start();
    for (const path of ['/plain.js', '/typed.ts']) {
      const socket = new WebSocket(server.urls[0].replace('http', 'ws') + path);
      socket.onopen = () => socket.send('hello');
      console.log((await new Promise(resolve => (socket.onclose = resolve))).reason);
    }
    await server.stop();`,
  );
  expect(await run(process.execPath, ['main.js'], { cwd: folder, timeout: 20_000 })).toContain(
    'plain hello\ntyped hello\n',
  );
  const program = join(project, 'node_modules/.bin/holdfast');
  expect(await run(program, ['check', '--config', 'holdfast.config.js'], { cwd: folder })).toBe(
    'holdfast.config.js: ok\n',
  );
  const wrong = run(program, ['check', '--config', 'holdfast.config.js'], {
    cwd: folder,
    env: { ...process.env, MORE: 'missing.js' },
  });
  await expect(wrong).rejects.toThrow(/routes\[2\]\.endpoint: .*missing\.js cannot be loaded: there is no such file\n/);
});

/** What README.md has between this heading and the next. */
async function section(heading: string): Promise<string> {
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  return new RegExp(`^## ${heading}\n([\\s\\S]*?)^## `, 'm').exec(readme)![1]!;
}

/** Starts a program that listens; resolves with the page at the address that it prints. */
async function pageOf(program: string, args: string[], options: SpawnOptions): Promise<string> {
  // A group of its own: what npx has started ends with it.
  const child = spawn(program, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  const exited = once(child, 'exit');
  try {
    const port = await new Promise<string>((resolve, reject) => {
      let output = '';
      for (const stream of [child.stdout!, child.stderr!])
        stream.on('data', chunk => {
          output += chunk;
          const match = /http:\/\/localhost:(\d+)/.exec(output);
          if (match) resolve(match[1]!);
        });
      child.on('exit', code => reject(new Error(`${program} ended with ${code}:\n${output}`)));
    });
    return await (await fetch(`http://127.0.0.1:${port}`)).text();
  } finally {
    process.kill(-child.pid!, 'SIGKILL');
    await exited;
  }
}

test('what README.md says of installing works in an empty folder, letter by letter, and without install scripts', async () => {
  const folder = join(project, 'newcomer');
  await mkdir(folder);
  const PATH = `${dirname(process.execPath)}${delimiter}${process.env.PATH}`;
  const env = { ...process.env, PATH, PORT: '0', npm_config_prefer_offline: 'true', npm_config_ignore_scripts: 'true' };
  const readme = await readFile(join(root, 'README.md'), 'utf8');
  const [, program] = /^```ts\n([\s\S]*?)^```/m.exec(readme)!;
  const [, configuration] = /^```yaml\n([\s\S]*?)^```/m.exec(readme)!;
  await writeFile(join(folder, 'main.ts'), program!);
  await writeFile(join(folder, 'holdfast.yaml'), configuration!.replace('8080', '0'));
  const blocks = [...(await section('Install')).matchAll(/^```\n([\s\S]*?)^```/gm)].map(([, lines]) => lines!);
  expect(blocks.length).toBeGreaterThanOrEqual(2);
  for (const lines of blocks)
    await run('sh', ['-ec', lines.replace('npm install holdfast', `npm install '${tarball}'`)], { cwd: folder, env });
  expect(await pageOf('node', ['main.ts'], { cwd: folder, env })).toContain('<title>Holdfast</title>');
  // Nobody listens on the port of its backend.
  expect(await pageOf('npx', ['holdfast', 'serve'], { cwd: folder, env })).toMatch(/Bad Gateway|Service Unavailable/);
}, 300_000);

test('the guide "Express with sessions and sockets" does what it says in an empty project: one login, and a logout closes the socket', async () => {
  const folder = join(project, 'express');
  await mkdir(folder);
  const guide = await readFile(join(root, 'docs/guides/express-with-sessions-and-sockets.md'), 'utf8');
  const [, program] = /^```ts\n([\s\S]*?)^```/m.exec(guide)!;
  await writeFile(join(folder, 'main.ts'), program!);
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  const child = spawn(process.execPath, ['main.ts'], {
    cwd: folder,
    env: { ...process.env, PORT: '0' },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    const [line] = await once(child.stdout!, 'data');
    const origin = /http:\/\/localhost:\d+/.exec(String(line))![0];
    const post = async (path: string, cookie: string, body?: URLSearchParams) => {
      const headers = { cookie, origin };
      const response = await fetch(origin + path, {
        method: 'POST',
        redirect: 'manual',
        headers,
        ...(body && { body }),
      });
      expect(response.status).toBe(303);
      return response.headers.getSetCookie()[0]?.split(';')[0] ?? cookie;
    };
    const cookie = await post('/sign-in', '', new URLSearchParams({ name: 'ann' }));
    const socket = new WebSocket(`${origin.replace('http', 'ws')}/live`, { headers: { cookie }, origin });
    const [hello] = await once(socket, 'message');
    expect(String(hello)).toBe('hello ann');
    const closed = once(socket, 'close');
    await post('/sign-out', cookie);
    expect((await closed)[0]).toBe(1008);
  } finally {
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    expect((await exited)[0]).toBe(0);
  }
});

test('the package runs nothing when it is installed, and of what it brings only lmdb and a package of lmdb would', async () => {
  const { scripts } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const hooks = ['preinstall', 'install', 'postinstall', 'prepublish', 'preprepare', 'prepare', 'postprepare'];
  expect(Object.keys(scripts).filter(name => hooks.includes(name))).toEqual([]);
  const { packages } = JSON.parse(await readFile(join(project, 'package-lock.json'), 'utf8'));
  const withScripts = Object.entries<{ hasInstallScript?: boolean }>(packages).filter(
    ([, one]) => one.hasInstallScript,
  );
  expect(withScripts.map(([path]) => path.replace(/.*node_modules\//, '')).sort()).toEqual([
    'lmdb',
    'msgpackr-extract',
  ]);
});

test('every link of README.md and of the other pages in the package leads to a file in it', async () => {
  const folders = new Set(
    [...files].flatMap(path => path.split('/').map((_, depth, names) => names.slice(0, depth).join('/'))),
  );
  const dead: string[] = [];
  for (const page of files) {
    if (!page.endsWith('.md')) continue;
    const text = await readFile(join(root, page), 'utf8');
    for (const [, target] of text.matchAll(/\]\((?!https?:|#|mailto:)([^)#\s]+)/g)) {
      const path = posix.join(posix.dirname(page), target!).replace(/\/$/, '');
      if (!files.has(path) && !folders.has(path)) dead.push(`${page}: ${target}`);
    }
  }
  expect(dead).toEqual([]);
});

test('a stack trace of the built package leads to the line of the source, which is in the package', async () => {
  const program = `
    import { openPostgres } from 'holdfast/session/postgres';
    await openPostgres({}).catch(error => console.log(error.stack));
  `;
  await writeFile(join(project, 'trace.js'), program);
  const stack = await run(process.execPath, ['--enable-source-maps', 'trace.js'], { cwd: project });
  const [, path, line] = /(src\/session\/stores\/postgres\/open\.ts):(\d+):\d+/.exec(stack)!;
  const source = await readFile(join(root, path!), 'utf8');
  expect(source.split('\n')[Number(line) - 1]).toContain('give either url or pool');
  for (const map of [...files].filter(file => file.endsWith('.js.map'))) {
    const { sources, sourcesContent } = JSON.parse(await readFile(join(project, 'node_modules/holdfast', map), 'utf8'));
    for (const [index, source] of sources.entries()) {
      const original = posix.join(posix.dirname(map), source);
      // Of packages that are built in, the bundler makes modules of files in JSON.
      if (original.startsWith('node_modules/') && original.endsWith('.json')) continue;
      expect(sourcesContent?.[index] === (await readFile(join(root, original), 'utf8')), original).toBe(true);
    }
  }
});

test('packages that are built in come with their versions and licences, and are no dependencies', async () => {
  const manifest = JSON.parse(await readFile(join(project, 'node_modules/holdfast/package.json'), 'utf8'));
  const text = await readFile(join(project, 'node_modules/holdfast/dist/third-party.md'), 'utf8');
  for (const name of BUILT_IN) {
    const { version } = JSON.parse(await readFile(join(root, 'node_modules', name, 'package.json'), 'utf8'));
    expect(text).toMatch(new RegExp(`^## ${name} ${version} .*\\n\\n(?:.*\\n)*?.*Permission .* granted`, 'im'));
    expect(Object.keys(manifest.dependencies)).not.toContain(name);
  }
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

/** Compiles modules in a strict project that has the package installed, and says of each what is wrong with it. */
async function compile(sources: readonly string[]): Promise<readonly string[]> {
  const names = sources.map((_, index) => `consumer-${index}.ts`);
  await Promise.all(names.map((name, index) => writeFile(join(project, name), sources[index]!)));
  const compilerOptions = {
    module: 'nodenext',
    target: 'esnext',
    // Hono's declarations name types of browsers.
    lib: ['esnext', ...(sources.some(usesHono) ? ['dom'] : [])],
    types: ['node'],
    strict: true,
    noUncheckedIndexedAccess: true,
    verbatimModuleSyntax: true,
    // What imports nothing is no script, whose names all others had.
    moduleDetection: 'force',
    noEmit: true,
  };
  await writeFile(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: names }));
  const output = await run(join(root, 'node_modules/.bin/tsc'), ['-p', project, '--pretty', 'false'], {}).then(
    () => '',
    (error: Error) => error.message,
  );
  const faults = output.split(/\n(?=\S)/).filter(line => / error /.test(line));
  const ofNone = faults.filter(line => !names.some(name => line.includes(`${name}(`)));
  if (output !== '' && faults.length === 0) throw new Error(output);
  return names.map(name => [...faults.filter(line => line.includes(`${name}(`)), ...ofNone].join('\n'));
}

function usesHono(source: string): boolean {
  return source.includes(" from 'hono'");
}

test('a strict TypeScript project compiles against the built declarations', async () => {
  const source = `
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
  `;
  expect(await compile([source])).toEqual(['']);
});

// Not those marked as fragments, nor those that begin with a file name: they are files of a program that another test
// runs.
const programs = documents().flatMap(({ path, text }) =>
  [...text.matchAll(/^```ts\n(?!\/\/ [^/\s]+\.ts\n)([\s\S]*?)^```$/gm)].map(
    ([, source], index) => [path, index + 1, source!] as const,
  ),
);

// Together, as most of the time goes into the declarations that they share; alone where one of them changes these.
const compiled = new Map<string, string>();
beforeAll(async () => {
  const sources = programs.map(([, , source]) => source);
  const isAlone = (source: string) => /^declare (?:module|global)/m.test(source);
  const groups = [
    sources.filter(source => !isAlone(source) && !usesHono(source)),
    sources.filter(source => !isAlone(source) && usesHono(source)),
    ...sources.filter(isAlone).map(source => [source]),
  ];
  for (const group of groups) {
    const faults = await compile(group);
    for (const [index, source] of group.entries()) compiled.set(source, faults[index]!);
  }
});

test.each(programs)('in %s, program %i compiles', (_path, _index, source) => {
  expect(compiled.get(source)).toBe('');
});
