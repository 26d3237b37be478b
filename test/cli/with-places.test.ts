import { expect, test } from 'vitest';
import { HoldfastError } from '../../src/base/errors.ts';
import { withPlaces } from '../../src/cli/examine.ts';
import type { ReadConfig } from '../../src/config/load.ts';

/** Of a configuration that nothing can be found out about. */
const broken = { config: null } as unknown as ReadConfig;

test.each([
  ['of the configuration', new HoldfastError('ERR_CONFIG_INVALID', 'it is wrong')],
  ['of the machine', new HoldfastError('ERR_SERVER_LISTEN', 'the port is taken')],
  ['of the application', new Error('not today')],
])('an error %s stays as it is where its place cannot be found out', async (_, error) => {
  expect(await withPlaces(error, broken)).toBe(error);
});
