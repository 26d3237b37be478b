import { testCallbackValues } from '../guard/callback-values.ts';

testCallbackValues({ 'http/1': 1, tls: 1, 'http/2': 1 });
