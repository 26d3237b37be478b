import { expect, test } from 'vitest';
import { start } from '../examples/example-client.ts';
import type { ExampleProcess } from '../examples/example-process.ts';
import { type Tab, Visitor } from '../examples/visitor.ts';

interface Opening {
  user: string;
  isMuted: boolean;
  unread: { number: number; sender: string; text: string }[];
}

/** A browser in which a user has signed in. */
async function signIn(example: ExampleProcess, name: string): Promise<Visitor> {
  const visitor = new Visitor(example);
  expect(await visitor.navigate()).toContain('<title>Notifications</title>');
  expect((await visitor.post('/sign-in', new URLSearchParams({ name }))).status).toBe(204);
  return visitor;
}

/** A tab, and what waits there unread. */
async function open(visitor: Visitor): Promise<{ tab: Tab; opening: Opening; texts: string[] }> {
  const tab = await visitor.tab('/notifications');
  const opening = await tab.next<Opening>();
  return { tab, opening, texts: opening.unread.map(({ text }) => text) };
}

const textOf = async (tab: Tab) => (await tab.next<{ notification: { text: string } }>()).notification.text;

test('notifications reach every tab of every browser of one user, and nobody else', async () => {
  const example = await start('notifications');
  const [laptop, phone, bob] = await Promise.all(['ann', 'ann', 'bob'].map(name => signIn(example, name)));
  const tabs = await Promise.all([laptop!, laptop!, phone!].map(async visitor => (await open(visitor)).tab));
  const bobs = (await open(bob!)).tab;

  const answer = await bob!.post('/notify/ann', 'tea is ready');
  expect([answer.status, await answer.json()]).toEqual([202, { number: 1, tabs: 3 }]);
  for (const tab of tabs)
    expect(await tab.next()).toEqual({ notification: { number: 1, sender: 'bob', text: 'tea is ready' } });
  await laptop!.post('/notify/bob', 'thanks');
  expect(await textOf(bobs)).toBe('thanks');

  tabs[0]!.send({ read: 1 });
  for (const tab of tabs) expect(await tab.next()).toEqual({ read: 1 });
  expect((await open(phone!)).opening.unread).toEqual([]);
});

test('notifications that were accepted survive a cut connection and kill -9, and so does the sign-in', async () => {
  const example = await start('notifications');
  const [ann, bob] = await Promise.all(['ann', 'bob'].map(name => signIn(example, name)));
  const { tab } = await open(ann!);
  await tab.cut();
  expect(await (await bob!.post('/notify/ann', 'missed')).json()).toMatchObject({ tabs: 0 });
  const second = await open(ann!);
  expect(second.texts).toEqual(['missed']);

  const accepted: string[] = [];
  const { promise: twenty, resolve: sawTwenty } = Promise.withResolvers<void>();
  const posts = Array.from({ length: 100 }, async (_, index) => {
    const { status } = await bob!.post('/notify/ann', `number ${index}`);
    if (status === 202 && accepted.push(`number ${index}`) === 20) sawTwenty();
  });
  const settled = Promise.allSettled(posts);
  await twenty;
  await example.kill();
  await settled;
  expect(await second.tab.closed).toBe(1006);
  await example.start();

  const third = await open(ann!);
  expect(third.opening.user).toBe('ann');
  expect(third.texts).toEqual(expect.arrayContaining(['missed', ...accepted]));
  expect(new Set(third.texts).size).toBe(third.texts.length);
  await bob!.post('/notify/ann', 'it goes on');
  expect(await textOf(third.tab)).toBe('it goes on');
});

test('notifications: one browser is muted for all of its tabs, and stays so', async () => {
  const example = await start('notifications');
  const [laptop, phone] = await Promise.all(['ann', 'ann'].map(name => signIn(example, name)));
  const [first, second, phones] = [await open(laptop!), await open(laptop!), await open(phone!)];
  first.tab.send({ isMuted: true });
  expect(await first.tab.next()).toEqual({ isMuted: true });
  expect(await second.tab.next()).toEqual({ isMuted: true });
  await example.kill();
  await example.start();
  expect((await open(laptop!)).opening.isMuted).toBe(true);
  expect((await open(phone!)).opening.isMuted).toBe(false);
  expect(phones.tab.received).toHaveLength(1);
});

test('notifications: the cookie from before the sign-in is dead, and signing out closes the tabs of that browser only', async () => {
  const example = await start('notifications');
  const laptop = new Visitor(example);
  await laptop.navigate();
  expect(await (await laptop.tab('/notifications')).closed).toBe(1008);
  const planted = laptop.cookie;
  expect((await laptop.post('/sign-in', new URLSearchParams({ name: 'ann' }))).status).toBe(204);
  const thief = new Visitor(example);
  thief.cookie = planted;
  expect(await (await thief.tab('/notifications')).closed).toBe(1008);
  expect((await thief.post('/notify/ann', 'hi')).status).toBe(401);
  expect((await laptop.post('/sign-in', new URLSearchParams({ name: 'bob' }))).status).toBe(409);

  const phone = await signIn(example, 'ann');
  const tabs = [await open(laptop), await open(laptop), await open(phone)];
  await laptop.post('/sign-out');
  expect(await Promise.all(tabs.slice(0, 2).map(({ tab }) => tab.closed))).toEqual([1008, 1008]);
  expect(await (await phone.post('/notify/ann', 'still here')).json()).toMatchObject({ tabs: 1 });
  expect(await textOf(tabs[2]!.tab)).toBe('still here');
});
