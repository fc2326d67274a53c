// An OpenID provider that is not ours, for TestOIDCProvider: npm oidc-provider, with Entra's paths and our scopes. It signs
// everybody in as login_hint without asking. Usage: node oidc-provider.mjs MODULES PORT PUBLIC_JWK
// It prints "ready" when it serves, and ends with its standard input.
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, port, jwk] = process.argv.slice(2);
const { Provider, interactionPolicy } = await import(pathToFileURL(createRequire(modules + '/').resolve('oidc-provider')).href);
const graph = 'https://graph.microsoft.com', outlook = 'https://outlook.office.com', apps = 'https://outlook.office365.com';
const scopes = ['openid', 'profile', 'offline_access', graph + '/User.Read', graph + '/Mail.Send', graph + '/Mail.Send.Shared',
  graph + '/Mail.ReadWrite', outlook + '/SMTP.Send', graph + '/.default', apps + '/.default'];
const device = 'urn:ietf:params:oauth:grant-type:device_code';
const client = {
  grant_types: ['authorization_code', 'refresh_token', 'client_credentials', device], response_types: ['code'],
  redirect_uris: ['http://localhost/'], application_type: 'native', scope: scopes.join(' '),
};
// Entra's prompt=select_account is no word of this server's own.
const policy = interactionPolicy.base();
policy.add(new interactionPolicy.Prompt({ name: 'select_account', requestable: true }));
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    { ...client, client_id: 'public', token_endpoint_auth_method: 'none', grant_types: client.grant_types.filter((g) => g !== 'client_credentials') },
    { ...client, client_id: 'secret', client_secret: 'a~secret+with/odd=characters&', token_endpoint_auth_method: 'client_secret_post' },
    { ...client, client_id: 'signed', token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: 'PS256',
      jwks: { keys: [JSON.parse(jwk)] } },
  ],
  scopes,
  clientAuthMethods: ['none', 'client_secret_post', 'private_key_jwt'],
  routes: { authorization: '/tenant/oauth2/v2.0/authorize', token: '/tenant/oauth2/v2.0/token', device_authorization: '/tenant/oauth2/v2.0/devicecode' },
  features: { devInteractions: { enabled: false }, clientCredentials: { enabled: true }, revocation: { enabled: true },
    deviceFlow: { enabled: true }, resourceIndicators: { enabled: false } },
  rotateRefreshToken: true,
  issueRefreshToken: async () => true,
  ttl: { AccessToken: 3600, ClientCredentials: 3600, RefreshToken: 90 * 86400, DeviceCode: 600, Grant: 90 * 86400, Session: 3600, Interaction: 600, IdToken: 3600 },
  cookies: { keys: ['test'] },
  findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, preferred_username: id }) }),
  claims: { openid: ['sub'], profile: ['preferred_username'] },
  conformIdTokenClaims: false,
  interactions: { policy, url: (ctx, interaction) => `/interaction/${interaction.uid}` },
});

// grantAll consents to every scope that is asked for; one without addOIDCScope would be asked for again and again.
async function grantAll(params, accountId) {
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return grant.save();
}

provider.use(async (ctx, next) => {
  if (ctx.path.endsWith('/authorize')) { // OpenID Connect Core section 11 gives offline_access for prompt=consent alone; Entra does not ask for it
    ctx.query = { ...ctx.query, prompt: 'consent ' + ctx.query.prompt };
  }
  if (ctx.path.startsWith('/interaction/')) {
    const { params } = await provider.interactionDetails(ctx.req, ctx.res);
    const accountId = params.login_hint ?? 'nobody@contoso.test';
    await provider.interactionFinished(ctx.req, ctx.res, { login: { accountId }, select_account: {}, consent: { grantId: await grantAll(params, accountId) } });
    ctx.respond = false;
    return;
  }
  if (ctx.path === '/approve') { // what a person does on the page of the device flow
    const code = await provider.DeviceCode.findByUserCode(ctx.query.user_code, { ignoreExpiration: true });
    const accountId = 'erp@contoso.test';
    code.accountId = accountId;
    code.grantId = await grantAll(code.params, accountId);
    code.scope = code.params.scope;
    code.claims = {};
    code.authTime = Math.floor(Date.now() / 1000);
    await code.save();
    ctx.body = 'approved';
    return;
  }
  await next();
});

const server = createServer(provider.callback());
server.listen(Number(port), '127.0.0.1', () => console.log('ready'));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
