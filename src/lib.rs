//! Corsac: one router for WAMP and MQTT.
