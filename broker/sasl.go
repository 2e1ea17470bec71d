package broker

import (
	"bytes"
	"errors"

	"github.com/mirrormq/mirrormq/internal/amqp"
)

// errCredentials is returned for a SASL response that holds no user and
// password.
var errCredentials = errors.New("malformed credentials")

// mechanisms are the SASL mechanisms that the broker offers, in order.
const mechanisms = "PLAIN AMQPLAIN"

// credentials takes the user and the password out of a SASL response.
// known is false for a mechanism that is not offered.
func credentials(mechanism, response string) (user, password string, known bool, err error) {
	switch mechanism {
	case "PLAIN":
		user, password, err = plain([]byte(response))
	case "AMQPLAIN":
		user, password, err = amqplain([]byte(response))
	default:
		return "", "", false, nil
	}
	return user, password, true, err
}

// plain parses SASL PLAIN (RFC 4616): authorization identity, 0, user, 0,
// password. Like RabbitMQ it takes no authorization identity, since nobody may
// act for another.
func plain(response []byte) (user, password string, err error) {
	parts := bytes.Split(response, []byte{0})
	if len(parts) != 3 || len(parts[0]) > 0 {
		return "", "", errCredentials
	}
	return string(parts[1]), string(parts[2]), nil
}

// amqplain parses RabbitMQ's AMQPLAIN: a field table without its length, with
// LOGIN and PASSWORD.
func amqplain(response []byte) (user, password string, err error) {
	table := amqp.RawTable(response)
	login, ok := table.Lookup("LOGIN")
	if !ok {
		return "", "", errCredentials
	}
	secret, ok := table.Lookup("PASSWORD")
	if !ok {
		return "", "", errCredentials
	}
	name, ok := login.Text()
	if !ok {
		return "", "", errCredentials
	}
	word, ok := secret.Text()
	if !ok {
		return "", "", errCredentials
	}
	return string(name), string(word), nil
}
