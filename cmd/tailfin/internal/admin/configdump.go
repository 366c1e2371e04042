package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
)

const redacted = "redacted"

// secretKey matches the names of settings whose values are nobody's business.
// Names of files are fine: "key" alone is not among them.
var secretKey = regexp.MustCompile(`(?i)passw(or)?d|passphrase|secret|token|credential|auth(orization)?$|private|cookie|(mac|api|account)[_-]?key`)

// Redact is v as encoding/json has it, without what looks like a secret: values
// of keys with such names, and passwords in URLs.
func Redact(v any) (any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(b, &tree); err != nil {
		return nil, err
	}
	return redact(tree), nil
}

func redact(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if empty := value == nil || value == "" || value == false; secretKey.MatchString(key) && !empty {
				v[key] = redacted
				continue
			}
			v[key] = redact(value)
		}
	case []any:
		for i := range v {
			v[i] = redact(v[i])
		}
	case string:
		return redactURL(v)
	}
	return v
}

// redactURL takes the password out of a URL.
func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.User == nil {
		return s
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), redacted)
		return u.String()
	}
	u.User = url.User(redacted) // a NATS token stands where a user name does
	return u.String()
}

func (a *Admin) serveConfig(w http.ResponseWriter, _ *http.Request) {
	if a.opts.Config == nil {
		http.Error(w, "there is no configuration to show", http.StatusNotFound)
		return
	}
	tree, err := Redact(a.opts.Config())
	if err != nil {
		http.Error(w, fmt.Sprintf("the configuration cannot be shown as JSON: %v", err), http.StatusInternalServerError)
		return
	}
	writeJSON(w, http.StatusOK, tree)
}
