package sandbox

import (
	"fmt"
	"net/http"
	"strings"
)

// aadsts is one error of the token endpoint (facts A5, A9).
type aadsts struct {
	oauth    string // RFC 6749 section 5.2 and Microsoft's additions
	suberror string
	text     string // %s is filled by fail's detail
}

// aadstsTable holds what the endpoint raises itself and what Fault{AADSTS} can order. Texts are the real ones where the
// facts have them, else condensed.
var aadstsTable = map[int]aadsts{
	28000:   {"invalid_scope", "", "Provided value for the input parameter scope is not valid because it contains more than one resource. Scope %s is not valid."},
	50011:   {"invalid_request", "", "The redirect URI specified in the request does not match the redirect URIs configured for the application."},
	50020:   {"invalid_grant", "", "User account from identity provider does not exist in tenant 'Contoso' and cannot access the application in that tenant."},
	50027:   {"invalid_request", "", "JWT token is invalid or malformed."},
	50034:   {"invalid_grant", "bad_token", "The user account does not exist in the Contoso directory. To sign into this application, the account must be added to the directory."},
	50048:   {"invalid_client", "", "Subject must match Issuer claim in the client assertion."},
	50053:   {"invalid_grant", "", "The account is locked, you've tried to sign in too many times with an incorrect user ID or password."},
	50055:   {"invalid_grant", "user_password_expired", "The password is expired."},
	50057:   {"invalid_grant", "bad_token", "The user account is disabled."},
	50058:   {"login_required", "", "A silent sign-in request was sent but no user is signed in."},
	50147:   {"invalid_request", "", "Invalid size of Code_Challenge parameter, or a method that is not accepted."},
	50072:   {"interaction_required", "basic_action", "Due to a configuration change made by your administrator, you must enroll in multi-factor authentication to access the resource."},
	50076:   {"interaction_required", "basic_action", "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource."},
	50079:   {"interaction_required", "basic_action", "Due to a configuration change made by your administrator, you must enroll in multi-factor authentication."},
	50105:   {"invalid_grant", "", "Your administrator has configured the application to block users unless they are specifically granted ('assigned') access to the application."},
	50132:   {"invalid_grant", "bad_token", "The session is not valid due to password expiration or recent password change."},
	50133:   {"invalid_grant", "bad_token", "The session is not valid due to password expiration or recent password change."},
	50173:   {"invalid_grant", "bad_token", "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their password.%s"},
	50194:   {"invalid_request", "", "Application '%s' is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps created after '10/15/2018'. Use a tenant-specific endpoint or configure the application to be multi-tenant."},
	50196:   {"invalid_request", "", "The server terminated an operation because it encountered a client request loop. Please contact your app vendor."},
	53000:   {"invalid_grant", "message_only", "Device is not in required device state: compliant. Conditional Access policy requires a compliant device, and the device is not compliant."},
	53003:   {"invalid_grant", "message_only", "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance."},
	54005:   {"invalid_grant", "", "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token."},
	65004:   {"access_denied", "", "User declined to consent to access the app."},
	65001:   {"invalid_grant", "consent_required", "The user or administrator has not consented to use the application with ID '%s'. Send an interactive authorization request for this user and resource."},
	70000:   {"invalid_grant", "bad_token", "Provided grant is invalid or malformed."},
	70003:   {"unsupported_grant_type", "", "The app requested an unsupported grant type '%s'."},
	70007:   {"unsupported_response_type", "", "'%s' is not a supported value of 'response_type' when requesting a token."},
	70016:   {"authorization_pending", "", "OAuth 2.0 device flow error. Authorization is pending. Continue polling."},
	70018:   {"bad_verification_code", "", "Invalid verification code due to User typing in wrong user code for device code flow."},
	70019:   {"expired_token", "", "Verification code expired. Have the user retry the sign-in."},
	70020:   {"expired_token", "", "The provided value for the input parameter 'device_code' is not valid. This device code has expired."},
	70008:   {"invalid_grant", "token_expired", "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource."},
	70011:   {"invalid_scope", "", "The provided request must include a 'scope' input parameter. The provided value for the input parameter 'scope' is not valid. The scope %s is not valid."},
	70043:   {"invalid_grant", "token_expired", "The refresh token has expired or is invalid due to sign-in frequency checks by Conditional Access. The token was issued on 2026-04-20T14:30:28.0990908Z and the maximum allowed lifetime for this request is 86400."},
	90002:   {"invalid_request", "", "Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."},
	90014:   {"invalid_request", "", "The required field '%s' is missing from the credential. Ensure that you have all the necessary parameters for the login request."},
	90023:   {"invalid_request", "", "The authentication service request isn't valid: '%s'."},
	90120:   {"invalid_grant", "", "The device code was used before."},
	90024:   {"temporarily_unavailable", "", "Request budget exceeded. A transient error has occurred. Please try again."},
	90033:   {"temporarily_unavailable", "", "A transient error has occurred. Please try again."},
	90094:   {"invalid_grant", "", "Admin consent is required for the permissions requested by this application."},
	500011:  {"invalid_resource", "", "The resource principal named %s was not found in the tenant named Contoso. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant."},
	500112:  {"invalid_grant", "", "The reply address does not match the reply address provided when requesting Authorization code."},
	501481:  {"invalid_grant", "", "The Code_Verifier does not match the code_challenge supplied in the authorization request."},
	501491:  {"invalid_request", "", "Invalid size of Code_Challenge parameter."},
	530003:  {"invalid_grant", "message_only", "Your device is required to be managed to access this resource."},
	650052:  {"invalid_grant", "", "The app is trying to access a service that your organization lacks a service principal for. Contact your IT Admin to review the configuration of your service subscriptions."},
	700005:  {"invalid_grant", "", "Provided Authorization Code is intended to use against other tenant, thus rejected."},
	700016:  {"unauthorized_client", "", "Application with identifier '%s' was not found in the directory 'Contoso'. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."},
	700023:  {"invalid_client", "", "Client assertion audience claim does not match Realm issuer. The audience was '%s'."},
	700024:  {"invalid_client", "", "Client assertion is not within its valid time range.%s"},
	700025:  {"invalid_client", "", "Client is public so neither 'client_assertion' nor 'client_secret' should be presented."},
	700027:  {"invalid_client", "", "The certificate with identifier used to sign the client assertion is not registered on application.%s"},
	700082:  {"invalid_grant", "bad_token", "The refresh token has expired due to inactivity. The token was issued on %s and was inactive for 90.00:00:00."},
	700084:  {"invalid_grant", "bad_token", "The refresh token was issued to a single page app (SPA), and therefore has a fixed, limited lifetime of 1.00:00:00, which cannot be extended."},
	900023:  {"invalid_request", "", "Specified tenant identifier '%s' is neither a valid DNS name, nor a valid external domain."},
	900971:  {"invalid_request", "", "No reply address provided."},
	900144:  {"invalid_request", "", "The request body must contain the following parameter: '%s'."},
	900382:  {"invalid_request", "", "Confidential Client is not supported in Cross Cloud request."},
	900561:  {"invalid_request", "", "The endpoint only accepts POST requests. Received a %s request."},
	1002012: {"invalid_scope", "", "The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."},
	7000112: {"unauthorized_client", "", "Application '%s' is disabled."},
	7000215: {"invalid_client", "", "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'."},
	7000216: {"invalid_client", "", "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."},
	7000218: {"invalid_client", "", "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."},
	7000222: {"invalid_client", "", "The provided client secret keys for app '%s' are expired. Visit the Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials for added security: https://aka.ms/certCreds."},
	9000411: {"invalid_request", "", "The request is not properly formatted. The parameter '%s' is duplicated."},
	9002325: {"invalid_request", "", "Proof Key for Code Exchange is required for authorization code redemption."},
	9001023: {"invalid_request", "", "The grant type 'client_credentials' is not supported over the /common or /consumers endpoints. Please use a tenant-specific endpoint."},
	9002332: {"invalid_request", "", "Application '%s' is configured for use by Azure Active Directory users only. Please do not use the /consumers endpoint to serve this request."},
}

// stsError is a refusal of the token endpoint.
type stsError struct {
	number int
	detail string // fills the text's %s
}

// fail answers with the JSON of facts A5.
func (q *tokenRequest) fail(e stsError) {
	q.failAs(aadstsTable[e.number].oauth, e)
}

// describe is the error_description of facts A5.
func (q *tokenRequest) describe(e stsError) string {
	text := aadstsTable[e.number].text
	if strings.Contains(text, "%s") {
		text = fmt.Sprintf(text, e.detail)
	}
	stamp := q.at.UTC().Format("2006-01-02 15:04:05Z")
	sep := " "
	if q.set.OldTrailer {
		sep = "\r\n"
	}
	return fmt.Sprintf("AADSTS%d: %s%sTrace ID: %s%sCorrelation ID: %s%sTimestamp: %s",
		e.number, text, sep, q.trace, sep, q.correlation, sep, stamp)
}

// failAs fails with another OAuth error than the table's.
func (q *tokenRequest) failAs(oauth string, e stsError) {
	entry := aadstsTable[e.number]
	status := http.StatusBadRequest
	switch oauth {
	case "invalid_client":
		status = http.StatusUnauthorized
	case "temporarily_unavailable":
		status = http.StatusServiceUnavailable
	}
	stamp := q.at.UTC().Format("2006-01-02 15:04:05Z")
	q.w.Header().Set("x-ms-ests-server", "2.1.0 - sandbox ProdSlices")
	body := map[string]any{
		"error": oauth, "error_description": q.describe(e),
		"error_codes": []int{e.number}, "timestamp": stamp, "trace_id": q.trace, "correlation_id": q.correlation,
		"error_uri": fmt.Sprintf("https://login.microsoftonline.com/error?code=%d", e.number),
	}
	if entry.suberror != "" {
		body["suberror"] = entry.suberror
	}
	q.s.logf("entra: AADSTS%d %s", e.number, oauth)
	writeJSON(q.w, status, body)
}
