import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Administered } from '../../src/admin/administered.ts';
import { CalmLogger } from '../../src/base/calm-logger.ts';
import { systemClock } from '../../src/base/clock.ts';
import { silentLogger } from '../../src/base/logger.ts';
import type { Config } from '../../src/config/config.ts';
import { createAddressList } from '../../src/http/address-list.ts';
import { SecurityEvents } from '../../src/policy/security-events.ts';
import { Admin } from '../../src/server/admin/admin.ts';
import { ChangingAdmin } from '../../src/server/admin/changing-admin.ts';
import { dataFolderOf } from '../../src/server/data-folder.ts';

const logger = new CalmLogger(silentLogger, systemClock);
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'holdfast-admin-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string): Config => ({ dataFolder: folder, admin: { socket: join(folder, name) } });
const isOpen = (name: string) => existsSync(join(folder, name));

function openAt(config: Config): Promise<Admin> {
  return Admin.open({} as Administered, {
    ...{ config, wantsSocket: true, dataFolder: dataFolderOf(config), clock: systemClock, logger },
    ...{ trustedProxies: createAddressList([]), security: new SecurityEvents(logger), isBanned: () => false },
  });
}

describe('an admin API that is closed while it changes', () => {
  test('is not opened at its new place when it has left the one before', async () => {
    const admin = new ChangingAdmin(openAt);
    await admin.open(at('before'));
    const changing = admin.change(at('before'), at('next'), logger);
    await admin.close();
    (await changing).settle();
    expect([isOpen('before'), isOpen('next'), admin.path]).toEqual([false, false, undefined]);
  });

  test('is closed at its new place when it is about to open there', async () => {
    const begun = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const admin = new ChangingAdmin(async config => {
      if (config.admin && config.admin.socket === join(folder, 'next')) {
        begun.resolve();
        await goOn.promise;
      }
      return openAt(config);
    });
    await admin.open(at('before'));
    const changing = admin.change(at('before'), at('next'), logger);
    await begun.promise;
    const closing = admin.close();
    goOn.resolve();
    await closing;
    (await changing).settle();
    expect([isOpen('before'), isOpen('next'), admin.path]).toEqual([false, false, undefined]);
  });

  test('is not opened again where it was when the change is undone', async () => {
    const admin = new ChangingAdmin(openAt);
    await admin.open(at('before'));
    const change = await admin.change(at('before'), at('next'), logger);
    const undoing = change.undo();
    await admin.close();
    await undoing;
    expect([isOpen('before'), isOpen('next'), admin.path]).toEqual([false, false, undefined]);
  });
});
