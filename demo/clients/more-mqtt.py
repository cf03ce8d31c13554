# pip install paho-mqtt
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.properties import PacketTypes, Properties


def said(packet, **options):
    """The options of Corsac are user properties; each value is JSON, but for the key of corsac-dedup."""
    properties = Properties(packet)
    properties.UserProperty = [("corsac-" + name.replace("_", "-"), value) for name, value in options.items()]
    return properties


def on_connect(client, userdata, flags, reason_code, properties):
    # The same key, so it is stored and delivered once, however often it is sent.
    key = str(uuid.uuid4())
    for _ in range(2):
        client.publish("demo/more/mqtt", "order", qos=1, properties=said(PacketTypes.PUBLISH, dedup=key))

    # First the last message that was kept, then what comes.
    client.subscribe("demo/more/mqtt", qos=1, properties=said(PacketTypes.SUBSCRIBE, last="1"))

    # A queue: PUBLISH puts, a subscription takes, its PUBACK is the acknowledgement.
    client.subscribe("$queue/demo/work", qos=1)
    client.publish("$queue/demo/work", '{"page":1}', qos=1)


def on_message(client, userdata, message):
    print(message.topic, message.payload.decode(), flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_connect, client.on_message = on_connect, on_message
client.connect("127.0.0.1", 1883)
client.loop_forever()
