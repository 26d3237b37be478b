import { parse, type DefaultTreeAdapterTypes as Tree } from 'parse5';
import { describe, expect, test } from 'vitest';
import { HtmlLinks, type HtmlLinksOptions } from '../../src/gateway/exchange/html-links.ts';
import { PageLinks } from '../../src/http/page-links.ts';
import { cpuTime } from '../cpu-time.ts';

const P = ';holdfast=T.1';
const page = (hasParameter = false) =>
  new PageLinks({
    url: 'https://shop.example/app/list?page=1',
    parameter: { name: 'holdfast', text: P },
    scope: '/',
    hasParameter,
  });

function rewrite(html: string, options: Partial<HtmlLinksOptions> = {}, every = Number.POSITIVE_INFINITY): string {
  const rewriter = new HtmlLinks({ links: page(true), isCharsetKnown: true, onLeft: () => {}, ...options });
  let out = '';
  for (let i = 0; i < html.length; i += every) out += rewriter.write(html.slice(i, i + every));
  return out + rewriter.end();
}

describe('in a page', () => {
  test.each([
    ['<a href="/b">', `<a href="/b${P}">`],
    ["<a href='/b?x=1&amp;y=2#z'>", `<a href='/b${P}?x=1&amp;y=2#z'>`],
    ['<a href=/b>', `<a href=/b${P}>`],
    ['<A\nHREF = "b"\tCLASS=x>', `<A\nHREF = "b${P}"\tCLASS=x>`],
    ['<a class=x href=/b?q/>', `<a class=x href=/b${P}?q/>`],
    ['<area href="/b">', `<area href="/b${P}">`],
    ['<form action="/b" method=post>', `<form action="/b${P}" method=post>`],
    ['<button formaction="/b">', `<button formaction="/b${P}">`],
    ['<input type=submit formaction="/b">', `<input type=submit formaction="/b${P}">`],
    ['<iframe src="/b"></iframe>', `<iframe src="/b${P}"></iframe>`],
    ['<frame src="/b">', `<frame src="/b${P}">`],
    ['<meta http-equiv="Refresh" content="5; url=/b">', `<meta http-equiv="Refresh" content="5; url=/b${P}">`],
    ['<meta content=\'5;url="/b"\' http-equiv=refresh>', `<meta content='5;url="/b${P}"' http-equiv=refresh>`],
    // The first of two attributes counts.
    ['<a href="/b" href="/c">', `<a href="/b${P}" href="/c">`],
    // An old ticket, as a backend writes it that has signed somebody in.
    ['<a href="/b;holdfast=old?x">', `<a href="/b${P}?x">`],
    [`<a href="/b${P}?x">`, `<a href="/b${P}?x">`],
    // Entities, also those without a semicolon.
    ['<a href="&#47;b&#63;x">', `<a href="&#47;b${P}&#63;x">`],
    ['<a href="/b&quest;x">', `<a href="/b${P}&quest;x">`],
    ['<a href="&sol;b&num;x">', `<a href="&sol;b${P}&num;x">`],
    ['<a href="/M&uuml;ller?x">', `<a href="/M&uuml;ller${P}?x">`],
    ['<a href="/a&copy">', `<a href="/a&copy&#59;${P.slice(1)}">`],
    ['<a href="/a&copy?x">', `<a href="/a&copy&#59;${P.slice(1)}?x">`],
    ['<a href="/a&apos">', `<a href="/a&apos&#59;${P.slice(1)}">`],
    ['<a href="/a&#65">', `<a href="/a&#65&#59;${P.slice(1)}">`],
    ['<a href="/a&b=c">', `<a href="/a&b=c${P}">`],
    ['<a href=&#47;b>', `<a href=&#47;b${P}>`],
    // In foreign content a title or style holds elements.
    ['<svg><style><a href="/b"></svg>', `<svg><style><a href="/b${P}"></svg>`],
    ['<svg><title><a href="/b"></title></svg>', `<svg><title><a href="/b${P}"></title></svg>`],
    // Here it is a comment that ends with the first >.
    ['<![CDATA[ > <a href="/b"> ]]>', `<![CDATA[ > <a href="/b${P}"> ]]>`],
    ['<!--> <a href="/b">', `<!--> <a href="/b${P}">`],
    ['<!-- --!> <a href="/b">', `<!-- --!> <a href="/b${P}">`],
    ['<script>"</script><a href="/b">', `<script>"</script><a href="/b${P}">`],
    ['\u00e4\u00ff<a href="/\u00e4">\u0080', `\u00e4\u00ff<a href="/\u00e4${P}">\u0080`],
  ])('%s', (html, wanted) => {
    expect(rewrite(html)).toBe(wanted);
    for (let every = 1; every < 12; every++) expect(rewrite(html, {}, every)).toBe(wanted);
  });

  test.each([
    '<a href="https://elsewhere.example/">',
    '<a href="//elsewhere.example/x">',
    '<a href="&#47;&#47;elsewhere.example">',
    '<a href="&sol;&bsol;elsewhere.example">',
    '<a href="/&Tab;/elsewhere.example">',
    '<a href="https&colon;//elsewhere.example">',
    '<a href="javascript&colon;go(1)">',
    '<a href="mailto:a@b.example">',
    '<a href="#top">',
    '<a href>',
    '<a name="href" title="/b">',
    '<a data-href="/b" hrefs="/b">',
    '<abbr href="/b">',
    // No navigation, and where a ticket would only be seen by others.
    '<link href="/b">',
    '<script src="/b"></script>',
    '<img src="/b">',
    '<embed src="/b">',
    '<object data="/b">',
    '<input src="/b">',
    '<meta http-equiv="x" content="5; url=/b">',
    '<meta name="refresh" content="5; url=/b">',
    '<meta content="5; url=/b">',
    // Not elements at all.
    '<!-- <a href="/b"> -->',
    '<!-- <a href="/b">',
    '<script>x = \'<a href="/b">\'</script>',
    '<style><a href="/b"></style>',
    '<title><a href="/b"></title>',
    '<textarea><a href="/b"></textarea>',
    '<xmp><a href="/b"></xmp>',
    '<noembed><a href="/b"></noembed>',
    '<plaintext><a href="/b"></plaintext>',
    '<svg><![CDATA[ > <a href="/b"> ]]></svg>',
    '<? <a href="/b"',
    '< a href="/b">',
    '</a href="/b">',
    '<!a href="/b">',
    '<a href="/b',
    '<a href=/b',
    '<a href',
    '<',
    '<p title="<a href=\'/b\'>">',
    '\u0000<\u0000a href="/b">',
  ])('as it is: %s', html => {
    expect(rewrite(html)).toBe(html);
    for (let every = 1; every < 12; every++) expect(rewrite(html, {}, every)).toBe(html);
  });

  test('a form without a place, and links without a path, get that of the page where the client has it without the ticket', () => {
    const here = `/app/list${P}`;
    for (const [html, wanted] of [
      ['<form>', `<form action="${here}?page=1">`],
      ['<form method=post class=x>', `<form method=post class=x action="${here}?page=1">`],
      ['<form/>', `<form/ action="${here}?page=1">`],
      ['<form action="">', `<form action="${here}?page=1">`],
      ["<form action=''>", `<form action='${here}?page=1'>`],
      ['<a href="?page=2&amp;x=&quot;">', `<a href="${here}?page=2&amp;x=&quot;">`],
      ['<a href="">', `<a href="${here}?page=1">`],
      ['<meta http-equiv=refresh content=5>', `<meta http-equiv=refresh content=5;&#32;url=${here}?page=1>`],
    ] as const) {
      expect(rewrite(html, { links: page() })).toBe(wanted);
      expect(rewrite(html, { links: page() }, 1)).toBe(wanted);
      expect(rewrite(html)).toBe(html);
    }
    const odd = new PageLinks({
      url: `https://shop.example/a'b"?x=<'>&y`,
      parameter: { name: 'holdfast', text: P },
      scope: '/',
      hasParameter: false,
    });
    const html = rewrite('<form>', { links: odd });
    expect(attributes(html).map(({ value }) => value)).toEqual([`/a'b%22${P}?x=%3C%27%3E&y`]);
  });

  test('links lead from the first base that there is', () => {
    const base = '<base target=_top><base href="https://shop.example/other/"><base href="https://elsewhere.example/">';
    expect(rewrite(`${base}<a href="b">`)).toBe(`${base}<a href="b${P}">`);
    expect(rewrite(`${base}<a href="?x">`)).toBe(`${base}<a href="/other/${P}?x">`);
    const away = '<base href="https://elsewhere.example/">';
    expect(rewrite(`${away}<a href="b"><a href="/b"><a href="?x"><form>`)).toBe(
      `${away}<a href="b"><a href="/b"><a href="?x"><form>`,
    );
    expect(rewrite(`${away}<a href="https://shop.example/b">`)).toBe(`${away}<a href="https://shop.example/b${P}">`);
    expect(rewrite(`<base href="data:,x"><a href="b">`)).toBe(`<base href="data:,x"><a href="b${P}">`);
  });

  test('a frame that shows nothing does not show its page', () => {
    for (const html of ['<iframe src="">', '<iframe src=" ">', '<frame src>', "<iframe src=''>"]) {
      expect(rewrite(html, { links: page() })).toBe(html);
      expect(rewrite(`<base href="/other/">${html}`)).toBe(`<base href="/other/">${html}`);
    }
  });

  test('a base that leads elsewhere takes no ticket there from a first page', () => {
    const own = `https://shop.example/app/list${P}?page=1`;
    for (const away of ['https://elsewhere.example/', '//elsewhere.example', 'http://shop.example/', 'blob:x']) {
      const base = `<base href="${away}">`;
      for (const [html, wanted] of [
        ['<form method=post>', `<form method=post action="${own}">`],
        ['<form action="">', `<form action="${own}">`],
        ["<form action=' '>", "<form action=' '>"],
        ['<button formaction="">', `<button formaction="${own}">`],
        ['<input formaction>', `<input formaction="${own}">`],
        ['<meta http-equiv=refresh content=5>', `<meta http-equiv=refresh content=5;&#32;url=${own}>`],
        ['<a href="">', '<a href="">'],
        ['<a href="?x">', '<a href="?x">'],
        ['<a href="/b">', '<a href="/b">'],
        ['<form action="/b">', '<form action="/b">'],
        ['<a href="https://shop.example/b">', `<a href="https://shop.example/b${P}">`],
      ] as const)
        for (const every of [1, Number.POSITIVE_INFINITY])
          expect(rewrite(base + html, { links: page() }, every)).toBe(base + wanted);
    }
    // Nor one that is too long to be read.
    const long = `<base href="https://elsewhere.example/${'x'.repeat(70_000)}">`;
    expect(rewrite(`${long}<form>`, { links: page() })).toBe(`${long}<form action="${own}">`);
  });

  test('a base of which only its browser knows where it leads takes no ticket there', () => {
    for (const host of [
      'shop.ex\xadample',
      'sh\xbap.example',
      '\xb0\xa1.example',
      '&uuml;ber.example',
      'shop.ex&shy;ample',
    ]) {
      const base = `<base href="https://${host}/">`;
      const html = `${base}<a href="b"><a href="?x"><form action="/b">`;
      expect(rewrite(html)).toBe(html);
      expect(rewrite(`${base}<form>`, { links: page() })).toContain('action="https://shop.example/app/list;');
      expect(rewrite(`<a href="b">${base}`)).toBe(`<a href="b${P}"><base href="">`);
      expect(rewrite(`<a href="https://${host}/b">`)).toBe(`<a href="https://${host}/b">`);
    }
  });

  test('a base that comes too late takes no ticket elsewhere', () => {
    const left: string[] = [];
    const onLeft = (why: string) => void left.push(why);
    const late = `<a href="b">x</a><base href="https://elsewhere.example/"><a href="c">`;
    expect(rewrite(late, { onLeft })).toBe(`<a href="b${P}">x</a><base href=""><a href="c${P}">`);
    expect(left).toEqual(['late-base']);
    const own = '<a href="b"><base href="/other/"><a href="c">';
    expect(rewrite(own)).toBe(own.replace('"b"', `"b${P}"`).replace('"c"', `"c${P}"`));
  });

  test('a base in a template is none, nor one in SVG or MathML', () => {
    for (const [before, after] of [
      ['<template>', '</template>'],
      ['<template><p><template></template>', '</template>'],
      ['<template><svg><desc>', '</template>'],
      ['<template/>', '</template>'],
      ['<svg><desc><template></svg>', '</template></svg>'],
      ['<svg>', '</svg>'],
      ['<math>', '</math>'],
    ] as const)
      for (const href of before.includes('<template') ? ['https://elsewhere.example/', '/other/'] : ['/other/']) {
        const inert = `${before}<base href="${href}">${after}`;
        expect(rewrite(`${inert}<a href="?x"><a href="b">`, { links: page() })).toBe(
          `${inert}<a href="/app/list${P}?x"><a href="b${P}">`,
        );
        // The first one comes behind it.
        expect(rewrite(`${inert}<base href="https://elsewhere.example/"><a href="b">`)).toBe(
          `${inert}<base href="https://elsewhere.example/"><a href="b">`,
        );
        expect(rewrite(`<a href="b">${inert}<a href="b">`)).toBe(`<a href="b${P}">${inert}<a href="b${P}">`);
      }
    // Where that is over only a parser of all HTML knows: this one counts, and is made empty.
    const over = '<math><font color=x><base href="https://elsewhere.example/"></math>';
    expect(rewrite(`${over}<a href="b">`)).toBe(`${over.replace(/https[^"]+/, '')}<a href="b${P}">`);
    expect(rewrite('<svg><desc><base href="https://elsewhere.example/"></desc></svg><a href="b">')).not.toContain(P);
    expect(rewrite('<template></template><base href="https://elsewhere.example/"><a href="b">')).not.toContain(P);
  });

  test('a further base takes no ticket elsewhere where it may come before the first', () => {
    const own = '<base href="/other/">';
    const away = '<base href="https://elsewhere.example/">';
    for (const begin of ['<table><tr><td>', '<select>', '<noscript>', '<frameset>']) {
      const left: string[] = [];
      const onLeft = (why: string) => void left.push(why);
      expect(rewrite(`${begin}${own}${away}<a href="b">`, { onLeft })).toBe(
        `${begin}${own}<base href=""><a href="b${P}">`,
      );
      expect(left).toEqual(['late-base']);
      expect(rewrite(`${own}${begin}${away}<a href="b">`)).toBe(`${own}${begin}<base href=""><a href="b${P}">`);
      expect(rewrite(`${begin}${own}<base href="/third/"><a href="?x">`)).toBe(
        `${begin}${own}<base href="/third/"><a href="/other/${P}?x">`,
      );
    }
    const long = `<base href="https://elsewhere.example/${'x'.repeat(70_000)}">`;
    expect(rewrite(`${own}<table>${long}<a href="b">`)).toBe(`${own}<table>${long}<a href="b">`);
  });

  test('the rest passes as it is where the text may mean something else', () => {
    for (const html of [
      // ISO-2022-JP, of which nothing is said.
      '<p>\u001b$B$"\u001b(B<a href="/b">',
      // UTF-16.
      '\u00fe\u00ff\u0000<\u0000a<a href="/b">',
      '\u00ff\u00fe<a href="/b">',
    ]) {
      for (const every of [1, 2, 3, Number.POSITIVE_INFINITY])
        expect(rewrite(html, { isCharsetKnown: false }, every)).toBe(html);
    }
    // The mark of UTF-16 counts also where the answer says otherwise.
    for (const mark of ['\u00fe\u00ff', '\u00ff\u00fe'])
      for (const every of [1, 2, 3, Number.POSITIVE_INFINITY])
        expect(rewrite(`${mark}<a href="/b">`, {}, every)).toBe(`${mark}<a href="/b">`);
    expect(rewrite('\u001b<a href="/b">')).toBe(`\u001b<a href="/b${P}">`);
    // A script that is not over with its first end tag.
    const left: string[] = [];
    const script = '<a href="/a"><script><!-- <script> </script> <a href="/b"> --></script><a href="/c">';
    for (const every of [1, 5, Number.POSITIVE_INFINITY])
      expect(rewrite(script, { onLeft: why => void left.push(why) }, every)).toBe(script.replace('"/a"', `"/a${P}"`));
    expect(new Set(left)).toEqual(new Set(['script']));
    const plain = '<script><!-- <script> --></script><a href="/c">';
    expect(rewrite(plain)).toBe(plain.replace('"/c"', `"/c${P}"`));
  });
});

describe('as a stream', () => {
  test('what is no link is passed on at once, and a link when it is complete', () => {
    const rewriter = new HtmlLinks({ links: page(true), isCharsetKnown: true, onLeft: () => {} });
    expect(rewriter.write('text')).toBe('text');
    expect(rewriter.write(' and <p cla')).toBe(' and <p cla');
    expect(rewriter.write('ss="x" title="')).toBe('ss="x" title="');
    expect(rewriter.write('long')).toBe('long');
    expect(rewriter.write('"><a href')).toBe('"><a href');
    expect(rewriter.write('="/b')).toBe('');
    expect(rewriter.write('" ')).toBe(`="/b${P}" `);
    expect(rewriter.write('<!-- half a comm')).toBe('<!-- half a comm');
    expect(rewriter.write('ent --><script>if (a<b')).toBe('ent --><script>if (a<b');
    expect(rewriter.end()).toBe('');
  });

  test('a link that is too long passes as it is, and what follows does not', () => {
    const left: string[] = [];
    const onLeft = (why: string) => void left.push(why);
    const long = 'x'.repeat(70_000);
    const html = `<a href="/${long}"><a href="/b"><meta content="${long}" http-equiv=refresh><form>`;
    const wanted = html.replace('"/b"', `"/b${P}"`);
    for (const every of [1_000, 65_536, Number.POSITIVE_INFINITY]) {
      left.length = 0;
      expect(rewrite(html, { onLeft }, every)).toBe(wanted);
      expect(left).toEqual(['too-long', 'too-long']);
    }
  });

  test('what has left already is not written again', () => {
    const long = 'x'.repeat(80_000);
    for (const html of [
      `<meta content="0;url=/x" data-pad="${long}" http-equiv=refresh>`,
      `<meta http-equiv=refresh content="0;url=/x" data-pad="${long}">`,
      `<meta data-pad="${long}" content="0;url=/x" data-more="${long}" http-equiv=refresh class=y>`,
    ])
      for (const every of [1_000, 16_384, 65_536]) {
        const out = rewrite(`${html}<a href="/b">`, {}, every);
        expect(out.replaceAll(P, '')).toBe(`${html}<a href="/b">`);
        expect(out.endsWith(`<a href="/b${P}">`)).toBe(true);
      }
    const whole = `<meta content="0;url=/x" data-pad="${long}" http-equiv=refresh>`;
    expect(rewrite(whole)).toBe(whole.replace('/x"', `/x${P}"`));
  });

  test('holds no more than a link, whatever comes', () => {
    for (const begin of [
      '<a href="',
      '<a href=',
      '<p title="',
      '<!--',
      '<script>',
      '<',
      '<a ',
      '<base href="',
      '<meta content="',
      '</',
      '<![CDATA[',
    ]) {
      const rewriter = new HtmlLinks({ links: page(true), isCharsetKnown: true, onLeft: () => {} });
      let given = rewriter.write(begin).length;
      let taken = begin.length;
      for (let i = 0; i < 200; i++) {
        given += rewriter.write('y'.repeat(10_000)).length;
        taken += 10_000;
        expect(taken - given).toBeLessThanOrEqual(65_536 + 10_000);
      }
      expect(given + rewriter.end().length).toBe(taken);
    }
  });

  test('a link that comes in the smallest pieces takes the time of many short ones', () => {
    for (const link of [
      (length: number) => `<a href="/${'x'.repeat(length)}">`,
      (length: number) => `<meta content=5 ${'a '.repeat(length / 2)}>`,
    ]) {
      const short = link(500).repeat(1_200);
      rewrite(short, {}, 1);
      const expected = cpuTime(() => rewrite(short, {}, 1));
      expect(cpuTime(() => rewrite(link(60_000).repeat(10), {}, 1))).toBeLessThan(5 * expected);
    }
  });

  test('takes a time that grows with the page and no faster', () => {
    const open = '<svg><math><desc><a href="/b"'.repeat(5_000);
    const begin = process.cpuUsage();
    for (const html of [
      open,
      '<a href="&'.repeat(20_000),
      '<![CDATA['.repeat(20_000),
      '<script><!--'.repeat(20_000),
      '</svg>'.repeat(20_000) + '<svg>'.repeat(20_000),
    ])
      rewrite(html, {}, 16_384);
    expect(process.cpuUsage(begin).user).toBeLessThan(5_000_000);
  });
});

/** Links as a browser finds them, by a parser of its own. */
const LINKS: Readonly<Record<string, readonly string[]>> = {
  a: ['href'],
  area: ['href'],
  form: ['action'],
  button: ['formaction'],
  input: ['formaction'],
  frame: ['src'],
  iframe: ['src'],
};

function attributes(html: string): { tag: string; name: string; value: string }[] {
  const found: { tag: string; name: string; value: string }[] = [];
  const visit = (node: Tree.Node): void => {
    if ('attrs' in node)
      for (const { name, value } of node.attrs) found.push({ tag: node.tagName.toLowerCase(), name, value });
    if ('content' in node) visit(node.content as Tree.Node);
    if ('childNodes' in node) for (const child of node.childNodes) visit(child);
  };
  visit(parse(html, { scriptingEnabled: false }));
  return found;
}

const PIECES = [
  ...[
    '<a href="/x">',
    '<a href=/x>',
    "<a href='x?y'>",
    '<form action="/x">',
    '<button formaction=x>',
    '<iframe src="/x">',
    '</iframe>',
  ],
  ...[
    '<a ',
    'href',
    '=',
    '"',
    "'",
    '>',
    '/',
    '<',
    '</',
    '</a>',
    ' ',
    '\n',
    '&',
    '&amp;',
    '&quest;',
    '&#47;',
    '#',
    '?',
    ';',
    'text',
  ],
  ...['<!--', '-->', '--!>', '<!-->', '<!', '<?', '<![CDATA[', ']]>', '<!DOCTYPE html>', '\u0000'],
  ...[
    '<script>',
    '</script>',
    '<style>',
    '</style>',
    '<title>',
    '</title>',
    '<textarea>',
    '</textarea>',
    '<xmp>',
    '</xmp>',
  ],
  ...[
    '<svg>',
    '</svg>',
    '<svg/>',
    '<math>',
    '</math>',
    '<mi>',
    '</mi>',
    '<foreignObject>',
    '</foreignObject>',
    '<desc>',
    '</desc>',
    '<p>',
    '<b>',
    '<div>',
    '</div>',
  ],
  ...['<template>', '</template>', '<select>', '</select>', '<table>', '</table>'],
  ...['<p title="', '<p title=', '<img src="/x">', '<link href="/x">', '<noembed>', '</noembed>', '<plaintext>'],
];

/** What decides which base counts, and links that it takes along. */
const BASE_PIECES = [
  ...['<base href="https://elsewhere.example/">', '<BASE HREF=//elsewhere.example/x>', '<base href="/o/">', '<base>'],
  ...['<base href="">', '<base href="javascript:1">', '<a href="b">', '<a href="?x">', '<a href="">', '<form>'],
  ...['<form action="">', '<button formaction="b">', '<a href="https://shop.example/z">', '</form>', 'text'],
  ...['<svg>', '</svg>', '<svg/>', '<math>', '</math>', '<desc>', '</desc>', '<mi>', '</mi>', '<font color=x>'],
  ...['<annotation-xml encoding="text/html">', '</annotation-xml>', '<template>', '</template>', '<template/>'],
  ...['<table>', '</table>', '<tr>', '<td>', '</td>', '<caption>', '<select>', '</select>', '<option>'],
  ...['<frameset>', '</frameset>', '<noscript>', '</noscript>', '<head>', '</head>', '<body>', '</body>'],
  ...['<p>', '</p>', '<div>', '</div>', '<b>', '</b>', '<br>', '</br>', '<title>', '</title>', '<style>', '</style>'],
];

/** Where the links with a ticket lead in a browser. */
function targets(html: string, address: string, scriptingEnabled: boolean): string[] {
  const elements: Tree.Element[] = [];
  let base: string | undefined;
  const visit = (node: Tree.Node, isTemplate: boolean): void => {
    if ('attrs' in node) {
      elements.push(node);
      if (!isTemplate && node.tagName === 'base' && node.namespaceURI.endsWith('xhtml'))
        base ??= node.attrs.find(({ name }) => name === 'href')?.value;
    }
    if ('content' in node) visit(node.content as Tree.Node, true);
    if ('childNodes' in node) for (const child of node.childNodes) visit(child, isTemplate);
  };
  visit(parse(html, { scriptingEnabled }), false);
  const url = base === undefined ? null : URL.parse(base, address);
  const from = url && url.protocol !== 'javascript:' ? url.href : address;
  const values = elements.flatMap(({ attrs }) => attrs.map(({ value }) => value));
  return values.filter(value => value.includes('holdfast=')).map(value => URL.parse(value, from)!.origin);
}

describe('of any nonsense', () => {
  test('no base takes a ticket elsewhere, with scripts and without', () => {
    let seed = 5;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % below;
    };
    let links = 0;
    for (let round = 0; round < 3_000; round++) {
      const html = Array.from({ length: 2 + random(10) }, () => BASE_PIECES[random(BASE_PIECES.length)]!).join('');
      const out = rewrite(html, { links: page() });
      for (const hasScripts of [true, false])
        for (const origin of targets(out, 'https://shop.example/app/list?page=1', hasScripts)) {
          links++;
          expect(origin, html).toBe('https://shop.example');
        }
    }
    expect(links).toBeGreaterThan(3_000);
  });

  test('every byte but tickets passes, and links are those that a parser of browsers finds', () => {
    let seed = 52;
    const random = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % below;
    };
    let links = 0;
    for (let round = 0; round < 500; round++) {
      const html = Array.from({ length: 2 + random(14) }, () => PIECES[random(PIECES.length)]!).join('');
      let isLeft = false;
      const onLeft = () => {
        isLeft = true;
      };
      const out = rewrite(html, { onLeft });
      expect(rewrite(html, {}, 1), html).toBe(out);
      expect(rewrite(html, {}, 1 + random(9)), html).toBe(out);
      // Nothing but tickets was put in.
      const bare = out
        .replaceAll(/(?:;|&#59;)holdfast=T\.1/g, '')
        .replace(/(https?:\/\/shop\.example)\/(?=[?#"' ])/g, '$1');
      expect(bare, html).toBe(html);
      // And nowhere but in links.
      const found = attributes(out);
      const before = attributes(html);
      found.forEach(({ tag, name, value }, index) => {
        if (!value.includes('holdfast=')) return;
        links++;
        expect(LINKS[tag] ?? [], html).toContain(name);
        expect(value.split('holdfast=').length, html).toBe(2);
        expect([before[index]!.tag, before[index]!.name], html).toEqual([tag, name]);
      });
      // Nor is one of them without.
      before.forEach(({ tag, name, value }, index) => {
        const isLink = LINKS[tag]?.includes(name) && !out.includes('<plaintext');
        if (isLink && page(true).add(value) !== value && !isLeft) expect(found[index]!.value, html).toContain(P);
      });
    }
    expect(links).toBeGreaterThan(150);
  });
});
