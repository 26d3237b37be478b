import { testCallbackValues } from './callback-values.ts';

// All of them over each wire: test/full/guard-callback-values.test.ts.
testCallbackValues({ 'http/1': 3, tls: 20, 'http/2': 8 });
