import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { accepts, freePort } from './free-port.ts';
import { until } from './until.ts';

const HOME = '/usr/share/tomcat10';
/** Debian's examples, of which we use the WebSocket endpoint `/websocket/echoAnnotation`. */
const EXAMPLES = '/usr/share/tomcat10-examples/examples';
const JAVA = '/usr/bin/java';

const absent = [`${HOME}/bin/bootstrap.jar`, EXAMPLES, JAVA].find(path => !existsSync(path));
if (absent && process.env.HOLDFAST_REQUIRE_SERVICES) throw new Error(`${absent} is not installed`);

/** Why tests that need Tomcat are skipped here; undefined when they are not. */
export const tomcatMissing: string | undefined = absent && `${absent} is not installed`;

/** Tomcats of tests that end without stopping them. */
const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export interface Tomcat extends AsyncDisposable {
  readonly url: string;
  readonly route: string;
  /** kill -9. */
  kill(): Promise<void>;
  /** Starts it again on the same port. Its sessions are gone. */
  restart(): Promise<void>;
}

/** Says which Tomcat it is, and how often it was asked in this session. */
const COUNTER = (route: string) => `<%@ page session="true" contentType="text/plain" %><%
  Integer count = (Integer) session.getAttribute("count");
  count = count == null ? 1 : count + 1;
  session.setAttribute("count", count);
%>${route} <%= count %> <%= session.getId() %>`;

/** Signs in and out as applications do, and says what it was told of its session. */
const SESSION = `<%@ page session="false" contentType="text/plain" %><%
  String told = request.getHeader("X-Session-ID");
  if (request.getParameter("login") != null) {
    request.getSession();
    request.changeSessionId();
  }
  if (request.getParameter("logout") != null) {
    if (request.getSession(false) != null) request.getSession(false).invalidate();
    Cookie cookie = new Cookie("JSESSIONID", "");
    cookie.setPath("/");
    cookie.setMaxAge(0);
    response.addCookie(cookie);
  }
%><%= told %>`;

/** No class needs to be looked for in the jars of Tomcat itself: it starts in a third of the time. */
const QUIET = '<JarScanner scanClassPath="false" scanBootstrapClassPath="false"/>';

/**
 * Starts a Tomcat of its own, with its files in a folder of its own: an application with `counter.jsp` and
 * `session.jsp` at `/` and again at `/ROUTE`, whose cookie is `JSESSIONID` at `/` both times, and Debian's examples at
 * `/examples`.
 *
 * @param route Its `jvmRoute`, the suffix of its session ids.
 */
export async function startTomcat(route: string): Promise<Tomcat> {
  const base = await mkdtemp(join(tmpdir(), 'holdfast-tomcat-'));
  const port = await freePort();
  for (const folder of ['conf', 'logs', 'temp', 'work', 'app/WEB-INF'])
    await mkdir(join(base, folder), { recursive: true });
  await writeFile(join(base, 'app/counter.jsp'), COUNTER(route));
  await writeFile(join(base, 'app/session.jsp'), SESSION);
  await writeFile(join(base, 'conf/web.xml'), DEFAULT_WEB_XML);
  await writeFile(join(base, 'conf/server.xml'), serverXml(port, route, join(base, 'app')));
  const args = [
    ...['-Xmx96m', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Djava.awt.headless=true'],
    ...['-cp', `${HOME}/bin/bootstrap.jar:${HOME}/bin/tomcat-juli.jar`],
    ...[`-Dcatalina.home=${HOME}`, `-Dcatalina.base=${base}`, `-Djava.io.tmpdir=${join(base, 'temp')}`],
    ...['org.apache.catalina.startup.Bootstrap', 'start'],
  ];
  let child: ChildProcess;
  const run = async () => {
    child = spawn(JAVA, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: base });
    running.add(child);
    const output = Promise.all([text(child.stdout!), text(child.stderr!)]);
    const exited = once(child, 'exit').then(() => running.delete(child));
    const stopped = exited.then(async () => {
      throw new Error(`Tomcat has ended:\n${(await output).join('')}`);
    });
    stopped.catch(() => {});
    // It listens once its applications are there.
    await Promise.race([until(() => accepts(port), 60_000), stopped]);
  };
  const kill = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
  await run();
  return {
    url: `http://127.0.0.1:${port}`,
    route,
    kill,
    restart: run,
    async [Symbol.asyncDispose]() {
      await kill();
      await rm(base, { recursive: true, force: true });
    },
  };
}

const serverXml = (port: number, route: string, app: string) => `
<Server port="-1">
  <Service name="Catalina">
    <Connector port="${port}" address="127.0.0.1" protocol="HTTP/1.1" maxThreads="40" minSpareThreads="2"/>
    <Engine name="Catalina" defaultHost="localhost" jvmRoute="${route}">
      <Host name="localhost" appBase="none" autoDeploy="false" deployOnStartup="false" startStopThreads="2">
        <Context path="" docBase="${app}" sessionCookiePath="/">${QUIET}</Context>
        <Context path="/${route}" docBase="${app}" sessionCookiePath="/">${QUIET}</Context>
        <Context path="/examples" docBase="${EXAMPLES}"><Resources allowLinking="true"/>${QUIET}</Context>
      </Host>
    </Engine>
  </Service>
</Server>`;

/** What every application has: files and JSPs. */
const DEFAULT_WEB_XML = `
<web-app xmlns="https://jakarta.ee/xml/ns/jakartaee" version="6.0">
  <servlet>
    <servlet-name>default</servlet-name>
    <servlet-class>org.apache.catalina.servlets.DefaultServlet</servlet-class>
    <load-on-startup>1</load-on-startup>
  </servlet>
  <servlet>
    <servlet-name>jsp</servlet-name>
    <servlet-class>org.apache.jasper.servlet.JspServlet</servlet-class>
    <load-on-startup>3</load-on-startup>
  </servlet>
  <servlet-mapping><servlet-name>default</servlet-name><url-pattern>/</url-pattern></servlet-mapping>
  <servlet-mapping><servlet-name>jsp</servlet-name><url-pattern>*.jsp</url-pattern></servlet-mapping>
</web-app>`;
