import { describe, expect, test } from 'vitest';
import { PageLinks } from '../../src/http/page-links.ts';

const P = ';sid=T.1';

function links(options: Partial<ConstructorParameters<typeof PageLinks>[0]> = {}): PageLinks {
  return new PageLinks({
    url: 'https://shop.example/app/list?page=1',
    parameter: { name: 'sid', text: P },
    scope: '/',
    hasParameter: false,
    ...options,
  });
}

describe('a link', () => {
  test.each([
    ['/cart', `/cart${P}`],
    ['/cart?x=1#y', `/cart${P}?x=1#y`],
    ['cart', `cart${P}`],
    ['../cart/', `../cart/${P}`],
    ['.', `.${P}`],
    ['/', `/${P}`],
    ['/a;v=1/b;w=2', `/a;v=1/b;w=2${P}`],
    ['https://shop.example/cart?x', `https://shop.example/cart${P}?x`],
    ['https://shop.example:443/cart', `https://shop.example:443/cart${P}`],
    ['HTTPS://SHOP.EXAMPLE/cart', `HTTPS://SHOP.EXAMPLE/cart${P}`],
    ['//shop.example/cart', `//shop.example/cart${P}`],
    ['https:cart', `https:cart${P}`],
    // A host alone has no path yet.
    ['https://shop.example', `https://shop.example/${P}`],
    ['https://shop.example?x', `https://shop.example/${P}?x`],
    ['//shop.example#x', `//shop.example/${P}#x`],
    ['https:///shop.example', `https:///shop.example/${P}`],
    ['/\\shop.example', `/\\shop.example/${P}`],
    // White space around and in it, as browsers read it.
    [' /cart\n', ` /cart${P}\n`],
    ['/ca\nrt', `/ca\nrt${P}`],
    ['\t/cart ?x', `\t/cart ${P}?x`],
  ])('to the own site gets the parameter at the end of its path: %j', (link, wanted) => {
    expect(links().add(link)).toBe(wanted);
  });

  test.each([
    'https://elsewhere.example/cart',
    '//elsewhere.example/cart',
    '/\\elsewhere.example/cart',
    '\\\\elsewhere.example',
    '/\t/elsewhere.example',
    'https://shop.example:8443/cart',
    'http://shop.example/cart',
    'https://shop.example.elsewhere.example/',
    'https://shop.example@elsewhere.example/',
    'https://ann:secret@shop.example/',
    'https://www.shop.example/',
    'wss://shop.example/cart',
    'blob:https://shop.example/1234',
    'view-source:https://shop.example/',
    'mailto:ann@shop.example',
    'javascript:go("?")',
    'java\nscript:go()',
    'data:text/html,/cart',
    'ht\ntps://shop.example',
    'https://',
    'http://[',
    '#top',
    ' #top',
  ])('that leads elsewhere, or stays on the page, is as it is: %j', link => {
    expect(links().add(link)).toBe(link);
  });

  test('that has a parameter of ours gets the one that counts in its place, however it is spelled', () => {
    for (const old of [';sid=old', ';sid=T.1', '%3Bsid%3Dold', ';s%69d=old;sid=older'])
      expect(links().add(`/a${old}/b?x`)).toBe(`/a/b${P}?x`);
    expect(links().add('/a;sidx=1')).toBe(`/a;sidx=1${P}`);
    expect(links().add('/a?y=;sid=old')).toBe(`/a${P}?y=;sid=old`);
  });

  test('without a path is that of its page, as long as the client has that without the parameter', () => {
    expect(links().add('?page=2#x')).toBe(`/app/list${P}?page=2#x`);
    expect(links().add('')).toBe(`/app/list${P}?page=1`);
    expect(links().add(' ')).toBe(`/app/list${P}?page=1`);
    for (const link of ['?page=2', '', '#x']) expect(links({ hasParameter: true }).add(link)).toBe(link);
  });

  test('is seen from the base of its document', () => {
    const base = URL.parse('https://shop.example/other/')!;
    expect(links().add('cart', base)).toBe(`cart${P}`);
    for (const hasParameter of [false, true]) {
      expect(links({ hasParameter }).add('?x', base)).toBe(`/other/${P}?x`);
      expect(links({ hasParameter }).add('#x', base)).toBe(`/other/${P}#x`);
    }
    const elsewhere = URL.parse('https://elsewhere.example/')!;
    for (const link of ['cart', '/cart', '?x', '']) expect(links().add(link, elsewhere)).toBe(link);
    expect(links().add('https://shop.example/cart', elsewhere)).toBe(`https://shop.example/cart${P}`);
  });

  test('that means the page says its origin where the base of the document is of another', () => {
    const own = `https://shop.example/app/list${P}?page=1`;
    for (const away of ['https://elsewhere.example/', 'http://shop.example/', 'about:blank']) {
      const base = URL.parse(away)!;
      expect(links().add('', base, true)).toBe(own);
      expect(links().refresh('5', base)).toBe(`5; url=${own}`);
      expect(links({ hasParameter: true }).add('', base, true)).toBe('');
      expect(links({ hasParameter: true }).refresh('5', base)).toBe('5');
    }
    expect(links().add('', URL.parse('https://shop.example/other/')!, true)).toBe(`/app/list${P}?page=1`);
  });

  test('whose bytes may be other characters leads only where each reading of them does', () => {
    for (const host of ['shop.ex\xadample', 'sh\xbap.example', 'shop.ex\xaample', 'shop.example\xad'])
      for (const link of [`https://${host}/cart`, `//${host}/cart`, `//${host}`, `/\\${host}/x`])
        expect(links().add(link)).toBe(link);
    expect(links().resolve('https://shop.ex\xadample/')).toBeNull();
    expect(links().add('/\x83\x5c\xad?x=\xfc')).toBe(`/\x83\x5c\xad${P}?x=\xfc`);
    expect(links().add('?x=\xfc&y="#\xad')).toBe(`/app/list${P}?x=\xfc&y="#\xad`);
    // What a path in such bytes is called is not known.
    const base = links().resolve('/\xfc/')!;
    expect(links().add('?x', base)).toBe('?x');
    expect(links().add('y', base)).toBe(`y${P}`);
  });

  test('out of the scope of the sessions is as it is', () => {
    const own = links({ scope: '/app' });
    expect(['/app', '/app/x', 'x', '/application', '/', '../x', '/other'].map(link => own.add(link))).toEqual([
      ...[`/app${P}`, `/app/x${P}`, `x${P}`],
      ...['/application', '/', '../x', '/other'],
    ]);
  });

  test('never becomes one to another host', () => {
    const odd = links({ url: 'https://shop.example//elsewhere.example/x' });
    expect(odd.add('?x')).toBe('?x');
    expect(odd.add('')).toBe('');
  });
});

describe('a refresh', () => {
  test.each([
    ['5; url=/next', `5; url=/next${P}`],
    ['5;URL=/next?x', `5;URL=/next${P}?x`],
    ['0, url = "/next"', `0, url = "/next${P}"`],
    ["0; url='/next' and more", `0; url='/next${P}' and more`],
    ['0;/next', `0;/next${P}`],
    ['0 /next', `0 /next${P}`],
    ['.5; url=next', `.5; url=next${P}`],
    // Without a place it is the page again.
    ['5', `5; url=/app/list${P}?page=1`],
    ['5;', `5; url=/app/list${P}?page=1`],
    ['5; url=', `5; url=/app/list${P}?page=1`],
  ])('leads on with the parameter: %j', (value, wanted) => {
    expect(links().refresh(value)).toBe(wanted);
  });

  test.each(['5; url=https://elsewhere.example/', 'x; url=/next', '', '; url=/next', 'url=/next', '5x'])(
    'that leads elsewhere, or nowhere, is as it is: %j',
    value => {
      expect(links().refresh(value)).toBe(value);
    },
  );

  test('to the page again needs nothing where the client has that with the parameter', () => {
    expect(links({ hasParameter: true }).refresh('5')).toBe('5');
  });

  test('takes no longer for many blanks', () => {
    const begin = performance.now();
    links().refresh(`1${' '.repeat(50_000)}url${' '.repeat(50_000)}`);
    links().add(`${' '.repeat(50_000)}x${' '.repeat(50_000)}y`);
    expect(performance.now() - begin).toBeLessThan(1_000);
  });
});
