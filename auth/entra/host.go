package entra

import "net/url"

// Host names the server that is asked, for the log.
func (c *Client) Host() string {
	u, err := url.Parse(c.url)
	if err != nil {
		return ""
	}
	return u.Host
}
