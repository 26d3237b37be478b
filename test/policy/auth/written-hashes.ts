/** Hashes as the programs of Debian 12 have written them, of one password with what is seldom: umlauts, quotes, blanks. */
export const PASSWORD = 'Grüße, "Ωmega" 9';

/** How it was called, and what it wrote. */
export const VERIFIED: readonly (readonly [string, string])[] = [
  ['htpasswd -B -C 4', '$2y$04$ql7Wz/lQLEaidpMsm4WWeu1ew9GWhK4T2k0ZfN7bsFTqLcEquOT66'],
  ['mkpasswd -m bcrypt', '$2b$05$fYDUL5fzqmo6P/UNk0Qnfu2c2fnd0R2AGscpVNc2Wpa6l5HgXgeK.'],
  ['mkpasswd -m bcrypt-a', '$2a$05$QXtzw9hQYXqYuxSN0YEIcOq.z4k6CGw2xbMzqx7xIrFuvgir/x6e2'],
  ['htpasswd -m', '$apr1$fTXHtPhd$9HkvLX.05Yi/nD7SQjPfO1'],
  ['openssl passwd -apr1', '$apr1$tQzEXK6Q$2cOu5SVVdZCe6WewqutSz/'],
  ['htpasswd -s', '{SHA}VU1LX10WeesMRHaoO9lno6SJTJQ='],
  ['htpasswd -2', '$5$FjvG2dZVQMeWEWsw$jQbbJmKBADjiDeHamy2AoTQkixfOO54n7.rbxtbQi56'],
  ['htpasswd -2 -r 1000', '$5$rounds=1000$hDilB8JLI4BV0P7P$q8n4hhrX.Gsf7FZ0M.xEyjHrKnRNIYvFn.85XbXoj87'],
  ['openssl passwd -5', '$5$DV1G/Rfb9bfhHUEc$PZs8EsWp3wAxphn7tgKgqIQ2l7EXw/io8TvcVpzjNI.'],
  ['mkpasswd -m sha256crypt', '$5$yD2Rt/67p4oQImhC$a53eKxKI0yHHkELT7cuJBSEVlwMGdV.SdOaguBhdl84'],
  [
    'htpasswd -5',
    '$6$2BLwObNH7fc/O.lw$/Uslhr.8qbrHyCGRZ2AkXbPXie65cdmsrvCKSQj5nz3GduW/A9K3MEPNOztuvAxFe0vW7IZN5rptdo1OELniP/',
  ],
  [
    'htpasswd -5 -r 5000',
    '$6$rounds=5000$7kdMNOrUDDoVXlw0$HdHM8EmQr3ZbVKSKsONMoNKfW724nObuG0dornR3/wmuGeuUMWfj85/tjNbv6kMRk95EIUpYu4NgbpGJ5Ywrt0',
  ],
  [
    'openssl passwd -6',
    '$6$jsKWsbNJaeAaV9EZ$PYnY9njxyYgNUhWbXwDbbXVrA.RUrcOh.7mm5y177aLIdp7JZkiB1jNtEX.wP5xdwlxUwvwKmGY/1RPgUB1zv/',
  ],
  [
    "openssl passwd -6 -salt 'rounds=1234$abcdefgh'",
    '$6$rounds=1234$abcdefgh$JJQTwOrnE2.jgrDFdBc0Cc75W.R4TyzEJFdHowjp3Qpx1XMTP3CyBLM9MN/9XOztMtEY3oxWPbPm/1I59X.Hp0',
  ],
  [
    'mkpasswd -m sha512crypt',
    '$6$tvEHFGeGyufa.vVh$0/gYiPqYwqzMkis/4koHYGttcAkUQjAvDgQDkAdWHjexsJ5NvEW7dyuogml2sGeK7b5jxvihhyjP2EpsQhr4N1',
  ],
];

/** What wrote it, the hash, and what it has to be called. */
export const REFUSED: readonly (readonly [string, string, string])[] = [
  ['mkpasswd', '$y$j9T$WepoQXGNiDjr/h/6EKAdp/$qCpb/0cc6v9lbQ702kl8n.neUGA0kgeMsvQ1vIPJMM6', 'yescrypt ($y$)'],
  [
    'mkpasswd -m gost-yescrypt',
    '$gy$j9T$RAoGgr3zfD9OL4dNeSF/P0$OXSUa1J2y46eJmcvESIU3.yLY0zPYrIjcLs7xa76YX0',
    'gost-yescrypt ($gy$)',
  ],
  [
    'mkpasswd -m scrypt',
    '$7$CU..../....fFcBxesW3XG14AhJ2yOlj/$gQWjPRXnMoZ7hXSs5L9Ie/vIk/tcFvJ2Oz7u1nNiGc/',
    'scrypt ($7$)',
  ],
  ['mkpasswd -m sunmd5', '$md5,rounds=52294$Cr6NZcX0$$DaLb5CAqW5IbtOKEn/jTx/', 'SunMD5 ($md5)'],
  ['mkpasswd -m md5crypt', '$1$S6y4gW6h$D6neKGvZ.UH.w0x3qxMeU.', 'MD5-crypt ($1$)'],
  ['mkpasswd -m bsdicrypt', '_J9..J7wOu8PYKZIHGB6', 'BSDi DES-crypt (_)'],
  ['mkpasswd -m descrypt', 'dX5Xzx71rWsos', 'DES-crypt'],
  ['htpasswd -d', 'AcWiIfHrTJz7A', 'DES-crypt'],
  ['mkpasswd -m nt', '$3$$1dccef3a0f37dc8beb10233dc859af4e', 'NT hash ($3$)'],
  ['openssl passwd -1', '$1$YsBeYpTI$CodiQ9pc35ry5EtVNFP4i0', 'MD5-crypt ($1$)'],
  ['openssl passwd -aixmd5', 'hT6kGK90$by5wgM5P5wAGmgXYFbKHn1', 'clear text, or hashed in a form that is not known'],
  ['htpasswd -p', 'secret', 'clear text'],
  ['crypt_blowfish of 2011', '$2x$05$6bNw2HLQYeqHYyBfLMsv/OiwqTymGIGzFsA4hOTWebfehXHNprcAS', 'faulty bcrypt ($2x$)'],
  ['LDAP', '{SSHA}W1H8DlvAL+Ed27w1rSQmUUAn6tlVTK6s', 'salted SHA-1 ({SSHA})'],
  ['LDAP, in another way', '{CRYPT}$6$salt$x', 'a form of LDAP'],
  ['SHA-1 with a scheme in lower case', '{sha}VU1LX10WeesMRHaoO9lno6SJTJQ=', '{SHA} is not in capitals'],
  ['SHA-1 without padding', '{SHA}VU1LX10WeesMRHaoO9lno6SJTJQ', 'SHA-1 hash ({SHA}) that is damaged'],
  ['argon2', '$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA', 'Argon2 ($argon2)'],
  ['a locked account', '*', 'locked'],
  ['a locked account with its hash', '!$2y$04$ql7Wz/lQLEaidpMsm4WWeu1ew9GWhK4T2k0ZfN7bsFTqLcEquOT66', 'locked'],
  ['htpasswd -5 -r 999', '*0', 'locked'],
  ['nobody', '', 'is empty'],
  ['bcrypt that was cut', '$2y$04$ql7Wz/lQLEaidpMsm4WWeu', 'bcrypt hash that is damaged'],
  ['bcrypt of a cost that takes hours', `$2y$31$${'a'.repeat(53)}`, 'cost of 31; 4 to 17 are verified'],
  ['bcrypt of a cost that is too little', `$2y$03$${'a'.repeat(53)}`, 'cost of 3; 4 to 17 are verified'],
  ['an hour of rounds', `$6$rounds=999999999$salt$${'a'.repeat(86)}`, '999999999 rounds; 1000 to 1000000 are verified'],
  ['too few rounds', `$5$rounds=999$salt$${'a'.repeat(43)}`, '999 rounds; 1000 to 1000000 are verified'],
  ['rounds that begin with 0', `$5$rounds=05000$salt$${'a'.repeat(43)}`, 'SHA-crypt hash ($5$, $6$) that is damaged'],
  ['SHA-512-crypt that was cut', `$6$salt$${'a'.repeat(85)}`, 'SHA-crypt hash ($5$, $6$) that is damaged'],
  ['a salt of 17 characters', `$6$${'s'.repeat(17)}$${'a'.repeat(86)}`, 'SHA-crypt hash ($5$, $6$) that is damaged'],
  ['APR1 that was cut', '$apr1$fTXHtPhd$9HkvLX', 'APR1 hash ($apr1$) that is damaged'],
  ['a form of the future', '$9$abc$def', 'a form that is not known'],
];
