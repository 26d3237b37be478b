import { describe, test } from 'vitest';
import { MemoryLedger } from '../../../src/session/ledgers/memory.ts';
import { FakeClock } from '../../../src/testing/fake-clock.ts';
import { ledgerConformance } from '../../../src/testing/ledger-conformance.ts';

ledgerConformance(
  'memory',
  () => {
    const clock = new FakeClock();
    return { ledger: new MemoryLedger({ clock }), advance: ms => clock.advance(ms) };
  },
  { describe, test },
);
