// Checked by the compiler alone: `npm run typecheck`, and test/full/type-checks.test.ts. Nothing here runs.
import { expectTypeOf } from 'vitest';
import { defineType } from '../../src/session/record/type-registry.ts';
import type { DeepReadonly, Session } from '../../src/session/session.ts';

class Money {
  constructor(amount: number, currency: string) {
    this.amount = amount;
    this.currency = currency;
  }
  amount: number;
  currency: string;
  history: Money[] = [];
  plus(other: Money): Money {
    return new Money(this.amount + other.amount, this.currency);
  }
}
class Account {
  readonly #balance: number;
  private readonly note = '';
  constructor(balance: number) {
    this.#balance = balance;
  }
  get balance(): number {
    return this.#balance + this.note.length;
  }
  toForm(): { readonly balance: number } {
    return { balance: this.#balance };
  }
}
interface Data {
  theme: 'light' | 'dark';
  cart: { item: string; tags: string[] }[];
  total: Money;
  account: Account;
  seen: Map<string, Set<Date>>;
  avatar: Uint8Array;
  // biome-ignore lint/suspicious/noExplicitAny: applications do.
  profile: any;
  userId: string & { readonly brand: 'UserId' };
  'shop:cart': string[];
  'shop:total': Money;
  'shop:eu:vat': number;
  'admin:role': 'root' | 'guest';
}
declare const session: Session<Data>;
declare const undeclared: Session<Record<never, never>>;
declare const anything: Session<Record<string, unknown>>;
declare function pay(account: Account, bytes: Uint8Array, at: Date): void;

// get gives the declared value, read only however deep; a key that is not declared does not compile.
expectTypeOf(session.get('theme')).toEqualTypeOf<'light' | 'dark' | undefined>();
expectTypeOf(session.get('cart')).toEqualTypeOf<
  readonly { readonly item: string; readonly tags: readonly string[] }[] | undefined
>();
expectTypeOf(session.get('seen')).toEqualTypeOf<ReadonlyMap<string, ReadonlySet<Date>> | undefined>();
expectTypeOf(session.get('userId')).toEqualTypeOf<Data['userId'] | undefined>();
expectTypeOf(session.get('profile')).toBeAny();
// @ts-expect-error: no such attribute
session.get('thema');
// @ts-expect-error: an array that was read has no push
session.get('cart')!.push({ item: '', tags: [] });
// @ts-expect-error: nor have those in it
session.get('cart')![0]!.tags.push('');
// @ts-expect-error: a Map that was read has no set
session.get('seen')!.set('', new Set());

// set and update take the declared value.
session.set('theme', 'dark');
session.set('total', new Money(1, 'EUR'));
// @ts-expect-error: not one of the two
session.set('theme', 'blue');
// @ts-expect-error: not money
session.set('total', 5);
expectTypeOf(session.update('theme', theme => (theme === 'dark' ? 'light' : 'dark'))).resolves.toEqualTypeOf<
  'light' | 'dark'
>();
// @ts-expect-error: not one of the two
void session.update('theme', () => 'blue');
// @ts-expect-error: no such attribute
session.delete('thema');
// @ts-expect-error: no such attribute
session.has('thema');

// Instances keep their methods, and are what functions take that want the class.
expectTypeOf(session.get('total')!.plus).toEqualTypeOf<Money['plus']>();
expectTypeOf(session.get('total')!.amount).toEqualTypeOf<number>();
// @ts-expect-error: what was read cannot be changed
session.get('total')!.amount = 5;
// @ts-expect-error: nor can what it holds
session.get('total')!.history.push(new Money(1, 'EUR'));
expectTypeOf(session.get('account')).toEqualTypeOf<Account | undefined>();
pay(session.get('account')!, session.get('avatar')!, [...session.get('seen')!.get('')!][0]!);
expectTypeOf<DeepReadonly<{ at: Date; by: Error; pattern: RegExp }>>().toEqualTypeOf<{
  readonly at: Date;
  readonly by: Error;
  readonly pattern: RegExp;
}>();

// A scope has the attributes behind its prefix, by the rest of their names.
const shop = session.scope('shop');
expectTypeOf(shop.get('cart')).toEqualTypeOf<readonly string[] | undefined>();
expectTypeOf(shop.get('total')!.plus).toEqualTypeOf<Money['plus']>();
expectTypeOf(shop.get('eu:vat')).toEqualTypeOf<number | undefined>();
expectTypeOf(shop.scope('eu').get('vat')).toEqualTypeOf<number | undefined>();
expectTypeOf(session.scope('shop:eu').get('vat')).toEqualTypeOf<number | undefined>();
shop.set('cart', ['a']);
expectTypeOf(shop.update('cart', cart => [...(cart ?? []), 'a'])).resolves.toEqualTypeOf<readonly string[]>();
// @ts-expect-error: an attribute of the session, not of the scope
shop.get('theme');
// @ts-expect-error: another scope's
shop.get('role');
// @ts-expect-error: the name within the scope
shop.get('shop:cart');
// @ts-expect-error: not a list
shop.set('cart', 'a');
// @ts-expect-error: no attribute begins with it
session.scope('shap');
// @ts-expect-error: no attribute of the scope begins with it
shop.scope('us');
// @ts-expect-error: a scope is not a session
void shop.invalidate();

// Where nothing is declared, or by an index signature, every name goes.
expectTypeOf(undeclared.get('any')).toBeUnknown();
expectTypeOf(undeclared.scope('any').get('thing')).toBeUnknown();
expectTypeOf(anything.scope('any').get('thing')).toBeUnknown();
undeclared.scope('any').set('thing', 1);

// A class is declared with what its instances have.
defineType('Money', Money, { keep: ['amount', 'currency'], transient: ['history'] });
defineType('Money', Money, {
  keep: ['amount', 'currency'],
  create: ({ amount, currency }, version) => new Money(amount * version, currency),
});
defineType('Account', Account, { write: account => account.toForm(), read: kept => new Account(kept.balance) });
defineType('URL', URL, { write: url => url.href, read: href => new URL(href), version: 2 });
// @ts-expect-error: create makes an instance
defineType('Money', Money, { keep: ['amount'], create: kept => kept });
// @ts-expect-error: read comes with write
defineType('Money', Money, { read: () => new Money(1, '') });
// @ts-expect-error: read gets what write gave
defineType('URL', URL, { write: url => url.href, read: (kept: number) => new URL(String(kept)) });
// @ts-expect-error: a class
defineType('Money', { amount: 1 }, { keep: ['amount'] });

// `load` gives what `get` does: one value, or those of a list in its order.
declare const loading: Session<{ report: { rows: number[] }; count: number; 'shop:photo': Uint8Array }>;
expectTypeOf(loading.load('report')).resolves.toEqualTypeOf<{ readonly rows: readonly number[] } | undefined>();
expectTypeOf(loading.load(['count', 'report'])).resolves.toEqualTypeOf<
  [number | undefined, { readonly rows: readonly number[] } | undefined]
>();
expectTypeOf(loading.scope('shop').load('photo')).resolves.toEqualTypeOf<Uint8Array | undefined>();
// @ts-expect-error: not declared
void loading.load('reprot');
// @ts-expect-error: not declared
void loading.load(['report', 'reprot']);
