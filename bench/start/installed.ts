import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { writeCertificate } from '../../test/self-signed-certificate.ts';
import { pathOf } from '../program.ts';

/** The package as a user has it, in a project with a configuration. */
export interface Installed {
  /** Its program. */
  readonly program: string;
  /** Where the configuration is. */
  readonly folder: string;
}

const run = promisify(execFile);
const projects = new Map<string, Promise<Installed>>();

/** Packs a checkout, installs it into an empty project that is gone when this program ends, and starts nothing. */
export function installed(checkout: string = fileURLToPath(new URL('../..', import.meta.url))): Promise<Installed> {
  let project = projects.get(checkout);
  if (!project) projects.set(checkout, (project = install(checkout)));
  return project;
}

async function install(checkout: string): Promise<Installed> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-start-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const packed = await run('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: checkout });
  const tarball = packed.stdout.trim().split('\n').at(-1)!;
  await writeFile(join(folder, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts'];
  await run('npm', ['install', ...quiet, `./${tarball}`], { cwd: folder });
  await mkdir(join(folder, 'tls'));
  writeCertificate(join(folder, 'tls'), { name: 'example.com' });
  // Of a password that nobody is asked for.
  await writeFile(join(folder, '.htpasswd'), 'alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n');
  await copyFile(pathOf('start/holdfast.yaml'), join(folder, 'holdfast.yaml'));
  return { program: join(folder, 'node_modules/holdfast/bin/holdfast.js'), folder };
}
