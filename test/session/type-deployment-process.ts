/**
 * One release of an application, on a folder of sessions that it shares with another. Run by type-deployment.test.ts,
 * told what to do by messages.
 */
import { isHoldfastError } from '../../src/base/errors.ts';
import { SessionManager } from '../../src/session/manager.ts';
import { defineType, SessionTypeUnknownError } from '../../src/session/record/type-registry.ts';
import type { Session } from '../../src/session/session.ts';
import { LmdbStore } from '../../src/session/stores/lmdb.ts';

const [path, release] = process.argv.slice(2) as [string, 'old' | 'new'];

class Money {
  amount: number;
  constructor(amount: number) {
    this.amount = amount;
  }
  get text(): string {
    return `${this.amount} EUR`;
  }
}
if (release === 'new') defineType('Money', Money, { keep: ['amount'] });

const sessions = new SessionManager({
  store: new LmdbStore({ path }),
  keys: ['test key of at least 32 bytes, not secret'],
});

const steps: Record<string, (session: Session<Record<string, unknown>>) => unknown> = {
  async setPrice(session) {
    session.set('price', [new Money(5)]);
    session.set('visits', 1);
  },
  getPrice: session => (session.get('price') as readonly Money[])[0]!.text,
  getVisits: session => session.get('visits'),
  setVisits: session => session.set('visits', 2),
  updateVisits: session => session.update('visits', visits => Number(visits) + 1),
  updatePrice: session => session.update('price', price => price),
  names: session => [session.has('price'), ...session.keys().sort()],
  unknownTypes: () => sessions.statistics().unknownTypes,
  deletePrice: session => session.delete('price'),
};

process.on('message', async ({ step, sid }: { step: string; sid?: string }) => {
  if (step === 'open') {
    const binding = sessions.bind({ cookieHeader: undefined, isSecure: false, isDocumentNavigation: false });
    const session = await binding.open();
    await binding.commit();
    process.send!({ answer: session.id });
  } else if (step === 'close') {
    await sessions.close();
    process.disconnect!();
  } else {
    try {
      const work = steps[step] as (session: Session) => unknown;
      process.send!({ answer: await sessions.access(sid!, work) });
    } catch (error) {
      if (!isHoldfastError(error)) throw error;
      const { attribute, type } = error as SessionTypeUnknownError;
      process.send!({
        answer: { code: error.code, attribute, type, isOwn: error instanceof SessionTypeUnknownError },
      });
    }
  }
});
