package diagnosis

const (
	signIn  = "run: postern signin {account}"
	compare = "compare tenant, client_id and cloud of provider {provider} with the app registration, and its API permissions"
)

// sts is the row of AADSTS numbers.
func sts(numbers []int, oauth, means, remedy string) Row {
	r := Row{OAuth: oauth, Means: means, Remedy: remedy}
	for _, n := range numbers {
		r.Signs = append(r.Signs, AADSTS(n))
	}
	return r
}

// Source: "Microsoft Entra authentication and authorization error codes", read in November 2026; the numbers that it lacks
// were seen in the field.

// entraRows is in the order in which an administrator meets it: the app, the tenant, the person, policies, consent, scopes,
// the sign-in's own life, the flows, Microsoft's own trouble.
var entraRows = []Row{
	// The app's credential.
	sts([]int{7000215}, "invalid_client",
		"the client secret is wrong; often the secret's ID was copied instead of its Value",
		"copy the Value of the secret (or create a new one) under Certificates & secrets of the app registration, then {secret}"),
	sts([]int{7000222}, "invalid_client", "the client secret has expired",
		"create a new one under Certificates & secrets of the app registration, then {secret}"),
	sts([]int{7000218}, "invalid_client", "Entra expects a client secret or certificate from this app, and got none",
		"give provider {provider} a client_secret; or, without one, set \"Allow public client flows\" to Yes under "+
			"Authentication of the app registration"),
	sts([]int{7000216}, "invalid_client", "app-only sign-in was asked for without a client secret",
		"give provider {provider} a client_secret"),
	sts([]int{700025}, "invalid_client", "the app is registered as a public client, and a client secret was sent",
		"remove client_secret from provider {provider}, or register the redirect URI under the platform Web"),
	sts([]int{700027, 5000611}, "invalid_client",
		"the certificate's signature is not accepted: it is not registered, or its key is another's",
		"{certificate}, and see that its thumbprint there is the same"),
	sts([]int{700024}, "invalid_client", "the signed assertion is outside its time of validity", "set this machine's clock right"),
	sts([]int{50032}, "invalid_client", "the certificate's key is too weak", "make a certificate with an RSA key of 2048 bits or more, then {certificate}"),
	sts([]int{50013, 500133}, "invalid_grant", "the signed assertion is invalid or has expired",
		"set this machine's clock right, then check the certificate of provider {provider}"),
	sts([]int{50048}, "invalid_client", "the signed assertion names another app", "check client_id of provider {provider}"),
	sts([]int{700023, 50027}, "invalid_client", "the signed assertion is malformed, or made for another token endpoint",
		"check tenant, cloud and authority of provider {provider}"),

	// The app in its tenant.
	sts([]int{7000112}, "unauthorized_client", "the app is disabled in the tenant",
		"set \"Enabled for users to sign-in\" to Yes under Enterprise applications, Properties"),
	sts([]int{700016, 700011, 70001}, "unauthorized_client", "the tenant {tenant} does not know the app {client_id}",
		"check client_id and tenant of provider {provider}; in a foreign tenant an administrator must consent to the app first"),
	sts([]int{700054, 700051, 70003}, "unauthorized_client", "this way of signing in is not enabled for the app",
		"check the platforms under Authentication of the app registration"),
	sts([]int{90002}, "invalid_request", "the tenant {tenant} does not exist in this cloud",
		"check tenant and cloud of provider {provider}"),
	sts([]int{900023}, "invalid_request", "{tenant} is neither a GUID nor a domain that a tenant could have",
		"correct tenant of provider {provider}"),
	sts([]int{90038, 900382}, "", "the tenant {tenant} belongs to another national cloud",
		"set cloud of provider {provider} to the tenant's (global, usgov, usgov-dod or china)"),
	sts([]int{50194, 9001023}, "", "this needs the tenant's own name, and tenant is {tenant}",
		"write the tenant's GUID or domain as tenant of provider {provider}"),
	sts([]int{9002332, 9002331}, "", "the app is not for the kind of account that tenant = {tenant} stands for",
		"set tenant of provider {provider} to the tenant's GUID or domain, or to consumers for personal accounts"),
	sts([]int{500011, 50001}, "invalid_resource", "the tenant has no such service under the name that the scope gives",
		"check cloud of provider {provider}; if it is right, the tenant lacks a licence for Exchange Online"),
	sts([]int{650052}, "", "the tenant has no subscription for the service, for example no Exchange Online",
		"license Exchange Online in the tenant, then "+signIn),
	sts([]int{500021, 500022, 500212, 500213}, "", "a tenant restriction or cross-tenant policy forbids it",
		"let the tenant's administrator allow the app under Cross-tenant access settings, then "+signIn),

	// The person.
	sts([]int{50034}, "invalid_grant", "the person is not in the tenant {tenant}",
		"check tenant of provider {provider} and login of the account, then "+signIn),
	sts([]int{50020, 50197, 51004}, "invalid_grant", "the person belongs to another tenant, or to none",
		"sign in with an account of the tenant {tenant}, or invite this one as a guest; "+signIn),
	sts([]int{50126}, "invalid_grant", "user name or password is wrong", signIn),
	sts([]int{50053}, "invalid_grant", "the person is locked after too many wrong passwords, or comes from a bad address",
		"see the sign-in log in Entra, unblock the person or wait, then "+signIn),
	sts([]int{50055, 50144}, "invalid_grant", "the person's password has expired", "set a new password, then "+signIn),
	sts([]int{50057}, "invalid_grant", "the person's account is disabled",
		"enable the account under Users in Entra, then "+signIn),
	sts([]int{50105}, "", "the app demands assignment, and the person is not assigned to it",
		"assign the person under Enterprise applications, Users and groups, then "+signIn),
	sts([]int{50173}, "invalid_grant", "the sign-in was revoked: the password was changed, or an administrator ended all sessions",
		signIn),
	sts([]int{50132, 50133}, "invalid_grant", "the sign-in ended with a change of the password", signIn),

	// Policies.
	sts([]int{50076, 50079, 50074, 50072}, "invalid_grant", "a policy asks for multi-factor authentication",
		signIn+"; to keep this from coming back, exclude the account in Conditional Access or use app-only"),
	sts([]int{50078, 50158, 50097}, "invalid_grant", "a policy asks for fresh multi-factor authentication or for the device's own",
		signIn+"; to keep this from coming back, exclude the account in Conditional Access or use app-only"),
	sts([]int{53000, 53001, 530003}, "", "a policy asks for a compliant, joined or managed device",
		"exclude the account or the app in Conditional Access, or sign in from a managed device with a browser: "+signIn),
	sts([]int{53003}, "", "Conditional Access blocks this sign-in",
		"find the policy in Entra's sign-in log, exclude the account, the app or this location, then "+signIn),
	sts([]int{530033}, "", "Conditional Access blocks the device-code flow", "sign in with a browser: "+signIn),
	sts([]int{530035}, "", "security defaults block this sign-in as legacy authentication",
		"replace security defaults by Conditional Access policies, then "+signIn),
	sts([]int{53011, 50131, 530032}, "", "the person or the tenant counts as at risk, and a policy blocks it",
		"settle the risk under Identity Protection in Entra, then "+signIn),

	// Consent.
	sts([]int{65001}, "invalid_grant", "nobody has consented to a permission that is asked for",
		"add the permission under API permissions of the app registration, grant consent, then "+signIn),
	sts([]int{65004}, "access_denied", "the person declined the consent", "sign in again and accept: "+signIn),
	sts([]int{90094, 90095, 90008}, "", "an administrator must consent to the app",
		"press \"Grant admin consent\" under API permissions of the app registration, then "+signIn),
	sts([]int{650054, 650056, 650057, 65005}, "", "the app registration lacks a permission that is asked for, or it was removed",
		"add it under API permissions of the app registration, grant consent, then "+signIn),

	// Scopes.
	sts([]int{70011, 28002, 28003, 28000, 700022, 1002012}, "invalid_scope", "the scope that was asked for is not valid",
		"check cloud of provider {provider}, and that the app registration has the API permissions that the manual lists"),

	// The life of a sign-in.
	sts([]int{70000}, "invalid_grant", "the refresh token is malformed, or was made for another app or cloud", signIn),
	sts([]int{70008, 700082, 700081, 700083}, "invalid_grant",
		"the refresh token has expired, as it does after 90 days without use", signIn),
	sts([]int{700084}, "invalid_grant", "the refresh token came from a single-page redirect URI, and such tokens live for 24 hours",
		"register the redirect URI under Mobile and desktop applications instead, then "+signIn),
	sts([]int{70043}, "invalid_grant", "the sign-in frequency of a Conditional Access policy has ended the sign-in",
		"exclude the account from that policy or use app-only, then "+signIn),

	// The flows.
	sts([]int{54005, 501481, 50147, 501491, 700005}, "invalid_grant",
		"the sign-in's code was used before, or belongs to another sign-in",
		"start again: "+signIn),
	sts([]int{50011, 900971, 70004}, "", "the redirect URI is not registered for the app",
		"register http://localhost under Authentication, Mobile and desktop applications, then "+signIn),
	sts([]int{50199}, "", "Entra asks the person to confirm the app", "sign in with a browser: "+signIn),
	sts([]int{70016, 70018, 70019, 70020, 90119, 90120}, "", "the device code is pending, mistyped, expired or used",
		"start again: "+signIn),
	sts([]int{50134}, "", "the sign-in went to the wrong data centre", "start again: "+signIn),
	sts([]int{50196}, "invalid_request", "Entra saw the same request too often in a short time",
		"look for another program that signs in as the app {client_id}; Postern waits before it asks again"),
	sts([]int{900144, 90014, 9002313, 90023, 90100}, "invalid_request", "Entra finds the request malformed",
		"check tenant and client_id of provider {provider}; if they are right, report this as a fault of Postern"),

	// Microsoft's own trouble, which passes.
	sts([]int{90024, 90033, 90006, 50033, 90012, 90055}, "temporarily_unavailable", "Entra is busy or has trouble of its own", ""),

	// OAuth errors, for numbers that stand not above, and for servers that send none.
	{Signs: []string{"invalid_grant", "interaction_required", "consent_required", "login_required"},
		Means: "the sign-in is not accepted any more", Remedy: signIn, AppOnly: compare},
	{Signs: []string{"invalid_client"}, Means: "the app's secret or certificate is not accepted", Remedy: "{credential}"},
	{Signs: []string{"unauthorized_client", "invalid_scope", "invalid_resource", "invalid_request", "unsupported_grant_type",
		"unsupported_response_type", "access_denied"}, Means: "the app registration does not fit the request", Remedy: compare},
	{Signs: []string{"temporarily_unavailable", "server_error"}, Means: "Entra is busy or has trouble of its own"},
}
