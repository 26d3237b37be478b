import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { runHoldfast } from './run-holdfast.ts';

describe('holdfast', () => {
  test('--version prints the version of the package', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(await runHoldfast(['--version'])).toEqual({ code: 0, stdout: `${version}\n`, stderr: '' });
  });

  test('--help names the commands and the exit codes', async () => {
    const { code, stdout } = await runHoldfast(['--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/serve .*\n.*check .*\n.*doctor .*\n.*demo /);
    expect(stdout).toMatch(/Exit codes: 0 done; 1 failed.*; 2 wrong command line/);
  });

  test('prints the help and ends with 2 when it is given nothing to do', async () => {
    expect(await runHoldfast([])).toMatchObject({ code: 2, stdout: expect.stringContaining('Usage: holdfast') });
  });

  test('suggests the nearest command for one that it does not know', async () => {
    expect(await runHoldfast(['sevre'])).toEqual({
      code: 2,
      stdout: '',
      stderr: 'holdfast: unknown command "sevre"; did you mean "serve"?\n',
    });
  });

  test('suggests the nearest option for one that it does not know', async () => {
    expect(await runHoldfast(['check', '--confg', 'a.yaml'])).toEqual({
      code: 2,
      stdout: '',
      stderr: 'holdfast: check: unknown option "--confg"; did you mean "--config"?\n',
    });
  });

  test('refuses an argument that no command takes', async () => {
    const { code, stderr } = await runHoldfast(['check', 'a.yaml']);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^holdfast: check: .*a\.yaml.*see holdfast check --help\n$/);
  });

  test('prints the options of a command', async () => {
    const { code, stdout } = await runHoldfast(['check', '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/-c, --config FILE {3}default: holdfast\.config\.ts/);
    expect(stdout).toMatch(/--strict/);
  });
});
