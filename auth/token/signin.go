package token

import "time"

// Proof is what a person brought back from signing in. One of Refresh, Code and Device is set.
type Proof struct {
	Refresh Secret // a refresh token that was made elsewhere

	Code        Secret // an authorization code (RFC 6749 section 4.1.2)
	Verifier    Secret // of Code: the PKCE verifier whose challenge it was asked with (RFC 7636 section 4.1)
	RedirectURI string // of Code: the one it was asked with

	Device Secret // a device code (RFC 8628 section 3.2) that a person may have approved by now
}

// Wants is what a sign-in is for.
type Wants struct {
	Login     string     // who should sign in
	Resources []Resource // what the token must serve, the preferred one first
	Drafts    bool       // messages may be put down as drafts before they are sent
}

// Offer is what a sign-in asks a person for, and where.
type Offer struct {
	Scopes    []Scope
	Authorize string // the authorization URL, complete but for redirect_uri, state, code_challenge and its method
	Native    string // a redirect URI whose page shows nothing, from which people copy the address; "" where there is none
}

// Scope is one permission that is asked for.
type Scope struct {
	Name string `json:"name"` // as the vendor's consent page and portal call it
	Why  string `json:"why"`  // what it is needed for, in an administrator's words
}

// DeviceCode is a sign-in that waits for a person with another machine's browser (RFC 8628 section 3.2).
type DeviceCode struct {
	Device    Secret        // what is polled with
	UserCode  string        // what the person types, printable
	URI       string        // where, an http or https URL
	Interval  time.Duration // between two polls, at least a second
	Expires   time.Duration // from now
	Resources []Resource    // what was asked for: the vendor may refuse two at once
}

// Person is who signed in, as the vendor's directory says.
type Person struct {
	Name      string   // the name that is signed in with
	Addresses []string // every name and mail address of that person, Name among them
}
