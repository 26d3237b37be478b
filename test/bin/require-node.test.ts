import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const program = fileURLToPath(new URL('../../bin/holdfast.js', import.meta.url));
const check = fileURLToPath(new URL('../../bin/require-node.js', import.meta.url));

/** Runs a file on this Node, which says that it is another. */
function runAs(version: string, file: string) {
  const disguise = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } });`;
  return spawnSync(process.execPath, ['--import', `data:text/javascript,${encodeURIComponent(disguise)}`, file], {
    encoding: 'utf8',
  });
}

test.each(['18.20.4', '20.20.2', '24.11.1'])(
  'on Node %s the program says what it needs in one sentence and exits with 1',
  version => {
    const { status, stdout, stderr } = runAs(version, program);
    expect(stderr).toMatch(
      new RegExp(`^holdfast needs Node 24\\.12 or newer, and this is Node ${version}: install [^\\n]+\\.\\n$`),
    );
    expect(stdout).toBe('');
    expect(status).toBe(1);
  },
);

test.each(['24.12.0', '26.10.0', '27.0.0'])('Node %s is taken', version => {
  const { status, stderr } = runAs(version, check);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
});
