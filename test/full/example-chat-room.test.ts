import { expect, test } from 'vitest';
import { start } from '../examples/example-client.ts';
import type { ExampleProcess } from '../examples/example-process.ts';
import { type Tab, Visitor } from '../examples/visitor.ts';

interface Message {
  number: number;
  id: string;
  name: string;
  text: string;
}

/** Somebody with a name and one tab in the room. */
async function enter(
  example: ExampleProcess,
  name: string,
  path = '/chat/tea',
): Promise<{ visitor: Visitor; tab: Tab }> {
  const visitor = new Visitor(example);
  expect(await visitor.navigate()).toContain('<title>Chat room</title>');
  const tab = await visitor.tab(path);
  expect(await tab.next()).toEqual({ you: null });
  expect(await tab.ask({ name })).toEqual({ you: name });
  return { visitor, tab };
}

const textsOf = (tab: Tab) => tab.received.filter(message => 'text' in message).map(({ text }) => text);

test('chat-room: a message reaches everybody in its room, its sender too, and nobody elsewhere', async () => {
  const example = await start('chat-room');
  const ann = await enter(example, 'ann');
  const bob = await enter(example, 'bob');
  const cid = await enter(example, 'cid', '/chat/coffee');

  const said = await ann.tab.ask<Message>({ id: '1', text: 'good morning' });
  expect(said).toMatchObject({ id: '1', name: 'ann', text: 'good morning' });
  expect(await bob.tab.next()).toEqual(said);
  expect(await cid.tab.ask({ id: '1', text: 'hello?' })).toMatchObject({ name: 'cid', text: 'hello?' });

  const secondTab = await ann.visitor.tab('/chat/tea');
  expect(await secondTab.next()).toEqual({ you: 'ann' });
  expect(await secondTab.next()).toEqual(said);
  expect(await secondTab.ask({ name: 'anna' })).toEqual({ you: 'anna' });
  expect(await ann.tab.next()).toEqual({ you: 'anna' });
});

test('chat-room: who was cut off gets what was said meanwhile, once', async () => {
  const example = await start('chat-room');
  const ann = await enter(example, 'ann');
  const bob = await enter(example, 'bob');
  await ann.tab.ask({ id: '1', text: 'one' });
  const { number } = await bob.tab.next<Message>({ text: 'one' });
  await bob.tab.cut();
  await ann.tab.ask({ id: '2', text: 'two' });
  await ann.tab.ask({ id: '3', text: 'three' });

  const again = await bob.visitor.tab(`/chat/tea?after=${number}`);
  expect(await again.next()).toEqual({ you: 'bob' });
  expect(await again.next()).toMatchObject({ text: 'two' });
  expect(await again.next()).toMatchObject({ text: 'three' });
  await ann.tab.ask({ id: '4', text: 'four' });
  expect(await again.next()).toMatchObject({ text: 'four' });
});

test('chat-room: kill -9 in the middle loses nothing that was seen, and doubles nothing that is sent again', async () => {
  const example = await start('chat-room');
  const ann = await enter(example, 'ann');
  const bob = await enter(example, 'bob');
  const texts = Array.from({ length: 100 }, (_, index) => `line ${index}`);
  const speaking = (async () => {
    for (const [index, text] of texts.entries()) {
      ann.tab.send({ id: text, text });
      if (index >= 10) await ann.tab.next({ text: texts[index - 10] }); // ten at a time
    }
  })();
  await bob.tab.next({ text: 'line 20' });
  await Promise.all([example.kill(), expect(speaking).rejects.toThrow('closed before')]);
  expect(await Promise.all([ann.tab.closed, bob.tab.closed])).toEqual([1006, 1006]);
  await example.start();

  const annAgain = await ann.visitor.tab(`/chat/tea?after=${ann.tab.received.at(-1)!.number}`);
  expect(await annAgain.next()).toEqual({ you: 'ann' });
  const heard = new Set(textsOf(ann.tab));
  for (const text of texts) if (!heard.has(text)) annAgain.send({ id: text, text });
  await annAgain.next({ text: texts.at(-1) });
  const bobAgain = await bob.visitor.tab(`/chat/tea?after=${bob.tab.received.at(-1)!.number}`);
  await bobAgain.next({ text: texts.at(-1) });
  expect([...textsOf(bob.tab), ...textsOf(bobAgain)]).toEqual(texts);
  expect(new Set([...heard, ...textsOf(annAgain)])).toEqual(new Set(texts));
});

test('chat-room takes no message without a name, no nonsense, and nobody without a session', async () => {
  const example = await start('chat-room');
  const visitor = new Visitor(example);
  await visitor.navigate();
  const nameless = await visitor.tab('/chat/tea');
  nameless.send({ id: '1', text: 'hi' });
  expect(await nameless.closed).toBe(1008);

  const ann = await enter(example, 'ann');
  for (const nonsense of ['not json', 'null', '{"text":"no id"}', '{"id":"1","text":" "}']) {
    const tab = await ann.visitor.tab('/chat/tea');
    tab.send(nonsense);
    expect([nonsense, await tab.closed]).toEqual([nonsense, 1008]);
  }
  expect(await (await new Visitor(example).tab('/chat/tea')).closed).toBe(1008);
});
