# pip install paho-mqtt
import paho.mqtt.client as mqtt
from paho.mqtt.properties import PacketTypes, Properties


def on_connect(client, userdata, flags, reason_code, properties):
    for topic in ("demo/hello", "$callee/demo/greet/paho", "$reply/#"):
        client.subscribe(topic)
    client.publish("demo/hello", "paho is here")
    call = Properties(PacketTypes.PUBLISH)
    call.ResponseTopic = "$reply/1"
    client.publish("$call/demo/greet/paho", "fox", properties=call)


def on_message(client, userdata, message):
    text = message.payload.decode()
    if message.topic.startswith("$callee/"):
        client.publish(message.properties.ResponseTopic, f"Hello, {text}!")
    else:
        print(message.topic, text)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
client.on_connect, client.on_message = on_connect, on_message
client.connect("127.0.0.1", 1883)
client.loop_forever()
