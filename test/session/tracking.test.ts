import { describe, expect, test } from 'vitest';
import type { SessionBinding } from '../../src/session/request/binding.ts';
import { Cluster, type Process, user } from './cluster.ts';
import { FaultyStore } from './fixture.ts';

function begin(options = {}): { one: Process; cluster: Cluster } {
  const cluster = new Cluster(new FaultyStore(), options);
  return { cluster, one: cluster.process() };
}
async function open(process: Process, facts = {}): Promise<SessionBinding> {
  const binding = process.request(undefined, facts);
  await binding.open();
  await binding.commit();
  return binding;
}
const TICKET = /^v1\.[\w-]{22}\.[\w-]{43}\.[\w-]{8}\.[\w-]{43}$/;

describe('tracking by header', () => {
  const readHeader = (value: string | undefined, name = 'Holdfast-Session-Ticket') => ({
    readHeader: (asked: string) => (asked.toLowerCase() === name.toLowerCase() ? value : undefined),
  });

  test('gives and takes the ticket in the same header, a new one too, and sets no cookie', async () => {
    const { one } = begin({ tracking: 'header' });
    const [line, ...others] = (await open(one)).responseHeaders();
    expect([line!.name, others]).toEqual(['Holdfast-Session-Ticket', []]);
    expect(line!.value).toMatch(TICKET);
    const binding = one.request(undefined, readHeader(line!.value));
    const session = (await binding.get())!;
    await session.renew({ owner: user('ann') });
    const [renewed] = binding.responseHeaders();
    expect(renewed!.name).toBe('Holdfast-Session-Ticket');
    expect(renewed!.value).not.toBe(line!.value);
    expect(await one.request(undefined, readHeader(line!.value)).get()).toBeUndefined();
    const last = one.request(undefined, readHeader(renewed!.value));
    await (await last.get())!.invalidate();
    expect(last.responseHeaders()).toEqual([{ name: 'Holdfast-Session-Ticket', value: '' }]);
  });

  test('does not look at cookies, and hands out no nonce', async () => {
    const { one, cluster } = begin({ tracking: 'header' });
    const [line] = (await open(one)).responseHeaders();
    expect(await one.request(`sid=${line!.value}; holdfast=${line!.value}`).get()).toBeUndefined();
    const page = cluster.process().request(undefined, { isDocumentNavigation: true });
    await page.existing();
    expect(page.responseHeaders()).toEqual([]);
  });

  test('takes a name of its own, letter for letter', async () => {
    const { one } = begin({ tracking: 'header', header: 'X-App-Session' });
    const [line] = (await open(one)).responseHeaders();
    expect(line!.name).toBe('X-App-Session');
    expect(await one.request(undefined, readHeader(line!.value, 'x-app-session')).get()).toBeDefined();
  });

  test.each(['', 'two, tickets', 'v1.x', '\u00e9'])('takes %j for no ticket', async value => {
    const { one } = begin({ tracking: 'header' });
    expect(await one.request(undefined, readHeader(value)).get()).toBeUndefined();
  });
});

describe('tracking by URL', () => {
  test('puts the ticket into links and into no header', async () => {
    const { one } = begin({ tracking: 'url' });
    const binding = await open(one);
    expect(binding.responseHeaders()).toEqual([]);
    const url = binding.encodeUrl('/shop/cart?x=1;y#z');
    const [, ticket] = /^\/shop\/cart;holdfast=([\w.-]+)\?x=1;y#z$/.exec(url)!;
    expect(ticket).toMatch(TICKET);
    expect((await one.request(undefined, { urlTicket: ticket }).get())?.id).toBe(binding.current!.id);
    expect(binding.encodeUrl('cart#top')).toBe(`cart;holdfast=${ticket}#top`);
    expect(binding.encodeUrl('/')).toBe(`/;holdfast=${ticket}`);
    expect(binding.encodeUrl('/a;lang=de/b;v=2')).toBe(`/a;lang=de/b;v=2;holdfast=${ticket}`);
    expect(binding.encodeUrl(`/a;holdfast=old/b?x`)).toBe(`/a/b;holdfast=${ticket}?x`);
    for (const old of [';holdfast=old', '%3Bholdfast%3Dold', ';h%6fldfast=old;holdfast=older'])
      expect(binding.encodeUrl(`/a${old}/b?x`)).toBe(`/a/b;holdfast=${ticket}?x`);
    // What browsers leave out around a URL is no part of its path.
    expect(binding.encodeUrl(' /cart\n')).toBe(` /cart;holdfast=${ticket}\n`);
    expect(binding.encodeUrl(url)).toBe(url);
  });

  test.each([
    'https://elsewhere.example/',
    '//elsewhere.example/',
    '/\\elsewhere.example',
    ' //elsewhere.example',
    '/\t/elsewhere.example',
    '\x1f//elsewhere.example/x',
    '\x00/\\elsewhere.example',
    ' \x01\t\x02https://elsewhere.example/',
    '\x1f?page=2',
    '\x1f',
    'mailto:ann@example.com',
    'javascript:void(0)',
    '#top',
    '?page=2',
    '',
  ])('leaves %j as it is: it leads elsewhere, or stays on the page', async url => {
    const { one } = begin({ tracking: 'url' });
    expect((await open(one)).encodeUrl(url)).toBe(url);
  });

  test('has nothing to put there without a session, or when it has ended', async () => {
    const { one } = begin({ tracking: 'url' });
    expect(one.request().encodeUrl('/a')).toBe('/a');
    const binding = await open(one);
    await binding.current!.invalidate();
    expect([binding.encodeUrl('/a'), binding.responseHeaders()]).toEqual(['/a', []]);
  });

  test('gives the new ticket after a login, and the old one is dead', async () => {
    const { one } = begin({ tracking: 'url', urlParameter: 'jsessionid' });
    const binding = await open(one);
    const before = binding.encodeUrl('/a').slice('/a;jsessionid='.length);
    await binding.signIn(user('ann'));
    await binding.commit();
    const after = binding.encodeUrl('/a').slice('/a;jsessionid='.length);
    expect((await one.request(undefined, { urlTicket: after }).get())?.owner?.name).toBe('ann');
    expect(await one.request(undefined, { urlTicket: before }).get()).toBeUndefined();
  });
});

test('tracking by cookie leaves links alone and looks at nothing else', async () => {
  const { one } = begin();
  const binding = await open(one);
  const ticket = binding.responseHeaders()[0]!.value.split(';')[0]!.slice('sid='.length);
  expect(binding.encodeUrl('/a')).toBe('/a');
  expect(await one.request(undefined, { urlTicket: ticket, readHeader: () => ticket }).get()).toBeUndefined();
});

test.each([
  { header: 'two words' },
  { header: '' },
  { header: 'a:b' },
  { urlParameter: 'a;b' },
  { urlParameter: '\u00e9' },
  { cookie: { name: 'a b' } },
])('a name that cannot be used is refused: %j', options => {
  expect(() => begin(options)).toThrow(TypeError);
});
